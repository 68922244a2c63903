"""Documents that are kept for a second reading come back as they were; damage is told."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import UserError
from pipeline.corpus import kept
from pipeline.corpus.documents import Document, data_digest, document_of
from pipeline.corpus.kept import KeptWriter, read_kept


def write(path: Path, documents: list[Document]) -> None:
    with KeptWriter(path) as writer:
        for document in documents:
            writer.add(document)


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), max_size=30))
def test_as_they_were(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("kept") / "texts"
    documents = [document_of(text) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "PART_BYTES", 300)
        write(path, documents)
    found = list(read_kept(path))
    assert found == documents
    assert all(document.digest == data_digest(document.text.encode()) for document in found)


@pytest.mark.parametrize("end", [2, 20, -1])
def test_a_part_is_missing(tmp_path: Path, end: int) -> None:
    path = tmp_path / "texts"
    write(path, [document_of(f"Document {number}. " * 50) for number in range(9)])
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(UserError, match=r"texts is damaged: .* Start the command again with --fresh"):
        list(read_kept(path))
