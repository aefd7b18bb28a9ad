"""What only report.py needs: findings, words, the page, and the claims that are tested again."""
