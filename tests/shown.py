"""What a reader sees of a table or a figure."""

from bs4 import BeautifulSoup


def cells(shown):
    """The rows of a table as a browser gets them, its head first."""
    page = BeautifulSoup(shown.html, "html.parser")
    return [[cell.get_text("\n") for cell in row.find_all(["td", "th"])] for row in page.table.find_all("tr")]


def caption(shown):
    return BeautifulSoup(shown.html, "html.parser").figcaption.get_text()
