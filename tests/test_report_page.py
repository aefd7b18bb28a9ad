"""The page in a real browser: no error, no request, usable by keyboard, accessible, narrow, printed."""

import shutil

import pytest

from reporting.text import LANGUAGES
from tests import report_example

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing (requirements-dev.txt)")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        made = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for language in LANGUAGES:
        (folder / f"{language}.html").write_text(report_example.html(folder, language), encoding="utf-8")
    return folder


@pytest.fixture
def visit(browser, pages):
    """visit(language, ...) opens a page, which at its end has logged nothing and asked for nothing else."""
    opened, complaints, requests = [], [], []

    def open_page(language="en", width=1200, scheme="light", **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        opened.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((pages / f"{language}.html").as_uri())
        return page

    yield open_page
    for page in opened:
        page.close()
    assert not complaints
    assert all(url.startswith("data:") or url.endswith(".html") for url in requests), requests


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, language, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright",
                              reason="axe-playwright-python is not installed").Axe()
    page = visit(language, scheme=scheme)
    page.click('[data-cell="4-2"]')
    page.focus("#slider-share")
    found = axe.run(page).response["violations"]
    assert not [(v["id"], v["nodes"][0]["html"][:120]) for v in found
                if v["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_scrolls_sideways_on_a_phone(visit, language):
    page = visit(language, width=375)
    page.click('[data-cell="0-1"]')
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert page.evaluate("document.documentElement.lang") == language


def test_row_labels_stay_and_hidden_columns_are_announced(visit):
    page = visit(width=320)
    assert page.locator("#data .swipe").is_visible()
    page.evaluate("document.querySelector('#data .scroll').scrollLeft = 200")
    row, table = (page.locator(f"#data {part}").first.bounding_box()["x"] for part in ("tbody th", ".scroll"))
    assert row == pytest.approx(table, abs=1)


def test_a_cell_shows_its_faces_by_keyboard(visit):
    page = visit()
    page.focus('[data-cell="0-0"]')
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.get_attribute('[data-cell="1-1"]', "aria-pressed") == "true"
    assert page.locator("#faces li").all_inner_texts() == ["93 %", "71 %"]
    assert "true disgust, predicted disgust: 9 faces" in page.inner_text("#faces")
    page.click('[data-cell="1-6"]')
    assert page.inner_text("#faces") == "true disgust, predicted neutral: 0 faces"
    assert page.locator("#faces li").count() == 0


def test_a_figure_enlarges_and_escape_returns_the_focus(visit):
    page = visit(width=390)
    page.locator(".scripts summary").first.click()
    for kind in (".chart", ".enlarge:not(.chart)"):
        page.focus(kind)
        width = page.locator(kind).first.bounding_box()["width"]
        page.keyboard.press("Enter")
        assert page.locator("dialog").is_visible()
        assert page.evaluate("document.activeElement.closest('dialog') !== null")
        assert page.evaluate("document.querySelector('#large > *').getBoundingClientRect().width") > 2 * width
        page.keyboard.press("Escape")
        assert not page.locator("dialog").is_visible()
        assert page.evaluate("document.activeElement.className").startswith("enlarge")
    assert page.text_content("#large-caption") == "A <figure> & its label"


def test_a_filter_shows_its_patches_beside_it(visit):
    page = visit(width=390)
    page.focus(".filter >> nth=1")
    page.keyboard.press("Enter")
    panel = page.locator(".panel:visible")
    assert panel.count() == 1 and panel.locator(".patches img").count() == 5
    tile, shown = page.evaluate("""() => [".filter[aria-expanded=true]", ".panel:not([hidden])"].map(
        (part) => document.querySelector(part).getBoundingClientRect().toJSON())""")
    assert 0 <= shown["top"] - tile["bottom"] < tile["height"]
    page.keyboard.press("Enter")
    assert panel.count() == 0


def test_the_slider_masks_the_least_salient_pixels(visit):
    page = visit()

    def kept():
        """How many pixels of the masked face are those of the original, a few of them by chance."""
        return page.evaluate("""() => {
            const [a, b] = ["original", "masked"].map((kind) => {
                const copy = new OffscreenCanvas(48, 48).getContext("2d", {willReadFrequently: true});
                copy.drawImage(document.getElementById(`canvas-${kind}`), 0, 0);
                return copy.getImageData(0, 0, 48, 48).data; });
            return Array.from({length: 2304}, (_, i) => a[4 * i] === b[4 * i]).filter(Boolean).length; }""")

    assert abs(kept() - 461) < 30 and "20 % kept: 0.20" in page.inner_text("#slider-output")
    page.focus("#slider-share")
    page.keyboard.press("ArrowRight")
    assert abs(kept() - 576) < 30 and "25 % kept: 0.25" in page.inner_text("#slider-output")
    page.keyboard.press("End")
    assert kept() == 2304
    page.select_option("#slider-face", "1")
    assert "surprise" in page.inner_text("#slider-output")


def test_the_first_tab_skips_to_the_contents_and_the_theme_is_remembered(visit):
    page = visit(scheme="dark")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "report"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light != dark


def test_without_script_the_report_reads_on(visit):
    page = visit(java_script_enabled=False)
    assert page.locator(".chart svg").first.is_visible() and page.locator(".matrix").is_visible()
    assert not page.locator("#slider-share").is_visible() and not page.locator("#theme").is_visible()


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_prints_to_a4_with_nothing_under_seven_points(visit, language):
    page = visit(language, width=700)
    content = page.pdf(prefer_css_page_size=True)
    assert content.count(b"/Type /Page\n") >= 2
    assert b"/MediaBox [0 0 594.9" in content or b"/MediaBox [0 0 595" in content
    page.emulate_media(media="print")
    assert not page.locator("#theme").is_visible() and page.locator(".matrix").is_visible()
    sizes = page.evaluate("""() => [...document.querySelectorAll("body *")].filter((part) =>
        part.checkVisibility() && [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
        ).map((part) => {
            const {a, b} = part.getScreenCTM?.() ?? {a: 1, b: 0};  // of a chart, turned or not
            return parseFloat(getComputedStyle(part).fontSize) * Math.hypot(a, b);
        })""")
    assert len(sizes) > 200 and min(sizes) >= 7 * 96 / 72 - 0.01
