import re
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

import ecr_jax

PACKAGE = Path(ecr_jax.__file__).parent
PAGE = PACKAGE / "serving" / "page"
FILES = sorted(path for path in PAGE.rglob("*") if path.is_file())


def test_the_wheel_has_the_page():
    builder = WheelBuilder(str(PACKAGE.parent))
    packed = {Path(file.path) for file in builder.recurse_included_files()}
    assert set(FILES) <= packed
    assert {path.suffix for path in FILES} == {".html", ".css", ".js", ".svg"}


def test_all_that_the_page_refers_to_is_there():
    html = (PAGE / "index.html").read_text()
    named = [PAGE / place for place in re.findall(r'(?:href|src)="(assets/[^"]+)"', html)]
    for script in (PAGE / "assets").glob("*.js"):
        named += [PAGE / "assets" / place for place in re.findall(r'from "\./([^"]+)"', script.read_text())]
    assert all(path.is_file() for path in named)
    assert {path for path in FILES if path.parent.name == "assets"} == set(named)
    code = "".join(path.read_text() for path in FILES)
    icons = set(re.findall(r'<symbol id="i-([a-z-]+)"', html))
    used = set(re.findall(r'#i-([a-z-]+)"', html)) | set(re.findall(r'icon(?:: |\()"([a-z-]+)"', code))
    assert used <= icons
    ids = set(re.findall(r'id="([a-z-]+)"', html))
    assert set(re.findall(r'\belement\("([a-z-]+)"\)', code)) <= ids


def test_the_page_asks_no_other_address_and_has_no_inline_code():
    for path in FILES:
        text = path.read_text()
        outside = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", text)
        assert all(address == "http://www.w3.org/2000/svg" for address in outside), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), path
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", html)
