import hashlib
import io
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inputs.tokenizer import (
    _BORDER,
    LANGUAGES,
    PAD,
    SPECIALS,
    Tokenizer,
    TokenizerError,
    cleaned,
    is_private,
    train_tokenizer,
)
from tests.model import made


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581")))
def test_text_comes_back_as_it_was(text: str) -> None:
    """All but U+2581, SentencePiece's own sign for a blank, which reads as one."""
    assert made.tokenizer().decode(made.tokenizer().encode(text)) == text


@pytest.mark.parametrize("text", ["", "    x\t= 1  ", "naïve – 你好 🙂", "a\rb", "<own>", "\x1b[31m", "x" * 5000])
def test_blanks_and_rare_characters_are_kept(text: str) -> None:
    assert made.tokenizer().decode(made.tokenizer().encode(text)) == text


@settings(deadline=None)
@given(st.lists(st.sampled_from([*SPECIALS, "<pad>", "<unk>", "<s>", "<", "own>", " "])).map("".join))
def test_no_text_spells_a_marker_or_padding(text: str) -> None:
    tokenizer = made.tokenizer()
    reserved = {PAD, *(tokenizer.special(name) for name in SPECIALS)}
    assert not reserved & set(tokenizer.encode(text))


def test_every_marker_has_an_id_of_its_own() -> None:
    tokenizer = made.tokenizer()
    assert len({tokenizer.special(name) for name in SPECIALS} - {PAD}) == len(SPECIALS)
    assert [tokenizer.language(name) for name in LANGUAGES] == [tokenizer.special(f"<{name}>") for name in LANGUAGES]
    assert tokenizer.language("cobol") == tokenizer.special("<other>")


def test_no_piece_crosses_a_border_of_a_name_or_holds_two_digits() -> None:
    lines = [f"{verb}UserName_{n} = HTTPServer.read_all({n * 1234})" for verb in ("get", "set") for n in range(200)]
    pieces = [piece for piece in train_tokenizer(lines, 500).pieces() if not piece.startswith("<")]
    assert any(len(piece) > 4 for piece in pieces)
    assert [piece for piece in pieces if _BORDER.search(piece)] == []
    assert [piece for piece in pieces if sum(char.isdigit() for char in piece) > 1] == []


def test_the_same_lines_give_the_same_file_whose_name_is_its_sha256(tmp_path: Path) -> None:
    first, second = (train_tokenizer([f"value = other + {n}" for n in range(200)], 300) for _ in range(2))
    assert first.model == second.model
    assert first.digest == hashlib.sha256(first.model).hexdigest()
    (tmp_path / "tokenizer.model").write_bytes(first.model)
    assert Tokenizer.load(tmp_path / "tokenizer.model").digest == first.digest


def test_small_data_gives_fewer_pieces_than_asked_for() -> None:
    assert len(train_tokenizer(["x = 1"] * 10, 8000)) < 400


@pytest.mark.parametrize(
    "secret",
    [
        "write to jane.doe+x@mail.example.org",
        "key = AKIAIOSFODNN7EXAMPLE",
        "token: ghp_" + "a1B2" * 9,
        "xoxb-1234567890-abcdef",
        "jwt eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
        "sha = '" + "0123456789abcdef" * 2 + "'",
    ],
)
def test_a_line_with_an_address_or_a_secret_teaches_no_piece(secret: str) -> None:
    assert is_private(secret)
    assert cleaned(secret) is None
    harmless = [f"value = other + {n}" for n in range(200)]
    assert train_tokenizer([*harmless, *[secret] * 50], 400).model == train_tokenizer(harmless, 400).model


@pytest.mark.parametrize(
    "line", ["x = compute(y)", "def get_user_name(self):", "import a.b.c", "user@host", "@property"]
)
def test_ordinary_code_is_no_secret(line: str) -> None:
    assert not is_private(line)
    assert cleaned(line) is not None


def test_a_line_of_more_than_four_hundred_characters_teaches_nothing() -> None:
    assert cleaned("x " * 200) is not None
    assert cleaned("x " * 201) is None


def test_bytes_that_are_no_tokenizer_are_refused() -> None:
    with pytest.raises(TokenizerError, match="11 bytes that SentencePiece cannot read"):
        Tokenizer(b"not a model")


def with_markers(names: list[str]) -> Tokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([f"value = other + {n}" for n in range(200)]),
        model_writer=model,
        model_type="bpe",
        vocab_size=100,
        hard_vocab_limit=False,
        control_symbols=names,
        minloglevel=2,
    )
    return Tokenizer(model.getvalue())


def test_a_tokenizer_without_our_markers_is_refused_with_those_it_lacks() -> None:
    with pytest.raises(TokenizerError, match="lacks the pieces <own>;"):
        with_markers([name for name in SPECIALS if name != "<own>"])


def test_a_tokenizer_made_before_a_language_was_taught_opens_its_rows_as_those_of_others() -> None:
    tokenizer = with_markers([name for name in SPECIALS if name != "<go>"])
    assert tokenizer.language("go") == tokenizer.language("rust") == tokenizer.special("<other>")
    assert tokenizer.language("java") == tokenizer.special("<java>")
