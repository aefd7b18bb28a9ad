"""What only report.py needs: findings, words, results, pictures, the page."""
