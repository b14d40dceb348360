from speechvq.analysis.section import Figure, Section, Table
from speechvq.reporting.page import Page


def test_a_section_shows_its_sentences_tables_and_pictures_in_order() -> None:
    section = Section(
        title="Codes and phones",
        findings=["PNMI is 0.31."],
        warnings=["Few frames."],
        tables=[Table(columns=["phone", "n"], rows=[["a", 12]], caption="Counts")],
        figures=[Figure(picture="<svg></svg>", caption="Picture")],
    )
    page = Page("Analysis")
    section.add_to(page)
    html = page.render()
    places = [
        html.index(text)
        for text in ("Codes and phones</h2>", "Few frames.", "PNMI is 0.31.", "Picture", "Counts")
    ]
    assert places == sorted(places)
    assert "Not made" not in html


def test_a_section_that_could_not_be_made_says_why() -> None:
    page = Page("Analysis")
    Section(title="Phones", missing="there are no alignments.").add_to(page)
    assert "Not made: there are no alignments." in page.render()
