"""Write the Unicode tables of libpnp_ovss: `python engine/capi/tables.py`.

The tables are read off the `tokenizers` package and off Python itself, one code point at a time.
Each of the two has a version of Unicode of its own, and the library must do what they do.
Run this after an update of either; the tests tell when.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

SOURCES = Path(__file__).parent / "src"
MADE_WITH = (
    f"tokenizers {tokenizers.__version__} and Python's Unicode {unicodedata.unidata_version}"
)
WIDTH = 120  # of a line

LETTERS = [code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)
SIGMA, FINAL_SIGMA = "\N{GREEK CAPITAL LETTER SIGMA}", "\N{GREEK SMALL LETTER FINAL SIGMA}"
LOWEST_MARK, HIGHEST_MARK = "\u0334", "\u0345"  # of the classes 1 and 240
BATCH = 4096
APART = "|"  # between the texts of a batch: nothing crosses it

Text = dict[int, str]  # what a letter becomes
Letters = set[int]


def main() -> None:
    """Write all tables."""
    for name, text in generated().items():
        (SOURCES / name).write_text(text, encoding="utf-8")
        print(f"{SOURCES / name}: {len(text.splitlines())} lines")


@cache
def generated() -> dict[str, str]:
    """Make the text of each file of tables, by its name."""
    decomposed, new = decompositions()
    return {
        "unicode_sets.inc": _sets(new),
        "unicode_cases.inc": _cases(),
        "unicode_decompositions.inc": _decompositions(decomposed),
    }


# ---- What tokenizers do ----


def normalized(normalizer: normalizers.Normalizer, texts: Sequence[str]) -> list[str]:
    """Normalize texts, each by itself, in batches."""
    out: list[str] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        joined = APART.join(batch)
        if joined.count(APART) < len(batch):
            out += normalizer.normalize_str(joined).split(APART)
        else:
            out += map(normalizer.normalize_str, batch)
    if len(out) != len(texts):
        raise AssertionError(f"{len(texts)} texts became {len(out)}")
    return out


def each(normalizer: normalizers.Normalizer) -> Text:
    """Return what a normalizer makes of each letter."""
    return dict(zip(LETTERS, normalized(normalizer, list(map(chr, LETTERS))), strict=True))


def of_bert(**flag: bool) -> normalizers.Normalizer:
    """Make a BertNormalizer that does one thing."""
    off = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    return normalizers.BertNormalizer(**{**off, **flag})


def spaces_and_punctuation() -> tuple[Letters, Letters]:
    """Find what BertPreTokenizer splits a text at, and what it makes a word of."""
    split = pre_tokenizers.BertPreTokenizer()
    spaces: Letters = set()
    punctuation: Letters = set()
    for start in range(0, len(LETTERS), BATCH):
        batch = LETTERS[start : start + BATCH]
        text = " ".join(f"a{chr(code)}b" for code in batch)
        words = iter(word for word, _ in split.pre_tokenize_str(text))
        for code in batch:
            if next(words) == f"a{chr(code)}b":
                continue
            following = next(words)
            if following == "b":
                spaces.add(code)
            elif following == chr(code) and next(words) == "b":
                punctuation.add(code)
            else:
                raise AssertionError(f"U+{code:04X} is split in an unknown way")
    return spaces, punctuation


def decompositions() -> tuple[Text, Letters]:
    """Return the canonical decomposition of each letter but Hangul, and what is new to tokenizers.

    What is new to tokenizers, Python decomposes or reorders, and they leave it alone.

    Raises:
        AssertionError: the two differ in another way.
    """
    form = normalizers.NFD()
    of_tokenizers = each(form)
    of_python = {code: unicodedata.normalize("NFD", chr(code)) for code in LETTERS}
    for code in HANGUL:
        vowel, last = divmod((code - HANGUL.start) % 588, 28)
        jamo = [0x1100 + (code - HANGUL.start) // 588, 0x1161 + vowel, 0x11A7 + last]
        wanted = "".join(map(chr, jamo[: 3 if last else 2]))
        if not of_tokenizers.pop(code) == of_python.pop(code) == wanted:
            raise AssertionError(f"U+{code:04X} does not decompose by arithmetic")
    new = {code for code, text in of_tokenizers.items() if text != of_python[code]}
    if any(of_tokenizers[code] != chr(code) for code in new):
        raise AssertionError("tokenizers have decompositions that Python has not: take a newer one")
    whole = [code for code in LETTERS if of_python.get(code) == chr(code)]
    reordered = _reordered(form, whole)
    _check_classes(form, reordered)
    new |= {code for code in whole if unicodedata.combining(chr(code))} - reordered
    return {code: text for code, text in of_python.items() if text != chr(code)}, new


def _reordered(form: normalizers.Normalizer, letters: Sequence[int]) -> Letters:
    """Find the marks that tokenizers put in order, next to the lowest mark or to the highest."""
    pairs = [chr(code) + LOWEST_MARK for code in letters]
    pairs += [HIGHEST_MARK + chr(code) for code in letters]
    made = normalized(form, pairs)
    return {
        code
        for code, pair, text in zip([*letters, *letters], pairs, made, strict=True)
        if pair != text
    }


def _check_classes(form: normalizers.Normalizer, marks: Letters) -> None:
    """Check that tokenizers order marks by the classes that Python has."""
    one_of_class = {unicodedata.combining(chr(code)): chr(code) for code in sorted(marks)}
    pairs = [chr(code) + other for code in sorted(marks) for other in one_of_class.values()]
    pairs += [pair[::-1] for pair in pairs]
    for pair, made in zip(pairs, normalized(form, pairs), strict=True):
        if made != unicodedata.normalize("NFD", pair):
            raise AssertionError(f"tokenizers order {pair!a} otherwise than Python")


# ---- What Python does ----


def each_in_python(function: Callable[[str], str]) -> Text:
    """Return what a function makes of each letter."""
    return {code: function(chr(code)) for code in LETTERS}


def cased_and_ignorable() -> tuple[Letters, Letters]:
    """Find the letters around a capital sigma that decide whether it is final.

    Returns:
        The letters with case that are not ignored, and those that are ignored.
    """
    cased: Letters = set()
    ignorable: Letters = set()
    for code in LETTERS:
        if f"{chr(code)}{SIGMA}".lower().endswith(FINAL_SIGMA):
            cased.add(code)
        elif f"A{chr(code)}{SIGMA}".lower().endswith(FINAL_SIGMA):
            ignorable.add(code)
    return cased, ignorable


# ---- Compact forms ----


def flips(letters: Iterable[int]) -> list[int]:
    """Return where a set begins and ends, in turn: the first letter of a range, the first after."""
    out: list[int] = []
    for code in sorted(letters):
        if out and out[-1] == code:
            out[-1] += 1
        else:
            out += [code, code + 1]
    return out


def shifts(mapping: Mapping[int, str]) -> list[tuple[int, int, int, int]]:
    """Return runs of letters that become another: first, count, step and difference."""
    out: list[tuple[int, int, int, int]] = []
    for code, text in sorted(mapping.items()):
        if len(text) != 1:
            continue
        difference = ord(text) - code
        if out and out[-1][3] == difference:
            first, count, step, _ = out[-1]
            gap = code - first - (count - 1) * step
            if gap in (1, 2) and (count == 1 or gap == step):
                out[-1] = (first, count + 1, gap, difference)
                continue
        out.append((code, 1, 1, difference))
    return out


class Pool:
    """Texts, one after the other, and runs of letters that become them."""

    def __init__(self) -> None:
        self.letters: list[int] = []

    def runs(self, mapping: Mapping[int, str]) -> list[tuple[int, int, int, int]]:
        """Add the texts of a mapping, and return runs: first, count, length and place of a text."""
        out: list[tuple[int, int, int, int]] = []
        for code, text in sorted(mapping.items()):
            first, count, length, place = out[-1] if out else (0, 0, 0, 0)
            if out and code == first + count and len(text) == length:
                out[-1] = (first, count + 1, length, place)
            else:
                out.append((code, 1, len(text), len(self.letters)))
            self.letters += map(ord, text)
        return out


def changed(text: Text) -> Text:
    """Leave out the letters that stay as they are."""
    return {code: made for code, made in text.items() if made != chr(code)}


# ---- Files ----


def _header(what: str) -> str:
    return f"// {what}\n// Generated by engine/capi/tables.py with {MADE_WITH}; not to be edited.\n"


def _table(comment: str, declaration: str, items: Iterable[str]) -> str:
    """Write an array, its comment above it."""
    lines = [f"\n// {comment}", f"constexpr {declaration}[] = {{"]
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return "\n".join([*lines, line, "};\n"])


def _runs(comment: str, kind: str, name: str, runs: Iterable[tuple[int, int, int, int]]) -> str:
    items = (f"{{{first:#x}, {', '.join(map(str, rest))}}}" for first, *rest in runs)
    return _table(comment, f"{kind} {name}", items)


def _sets(new: Letters) -> str:
    cleaned = each(of_bert(clean_text=True))
    spaced = each(of_bert(handle_chinese_chars=True))
    marks = each(of_bert(strip_accents=True))
    spaces, punctuation = spaces_and_punctuation()
    cased, ignorable = cased_and_ignorable()
    removed = {code for code, text in cleaned.items() if not text}
    made_space = {code for code, text in cleaned.items() if text == " "}
    ideographs = {code for code, text in spaced.items() if text == f" {chr(code)} "}
    if changed(cleaned).keys() - removed - made_space or changed(spaced).keys() - ideographs:
        raise AssertionError("BertNormalizer does what this file does not know")
    splitting = {code for code in LETTERS if len(f"a{chr(code)}b".split()) == 2}
    tables = [
        ("REMOVED", removed, "Removed by BertNormalizer's clean_text."),
        ("MADE_SPACE", made_space, "Made a space by BertNormalizer's clean_text."),
        ("IDEOGRAPHS", ideographs, "Put between spaces by handle_chinese_chars."),
        (
            "MARKS",
            {code for code, text in marks.items() if not text},
            "Removed by strip_accents, after decomposition.",
        ),
        ("TOKENIZERS_SPACES", spaces, "Where BertPreTokenizer splits."),
        ("PUNCTUATION", punctuation, "What BertPreTokenizer makes a word of."),
        ("PYTHON_SPACES", splitting, "Where Python's str.split() splits."),
        ("CASED", cased, "With case, around a capital sigma in Python."),
        ("IGNORABLE", ignorable, "Ignored around a capital sigma in Python."),
        ("NEW_TO_TOKENIZERS", new, "Decomposed, or put in order, by Python alone."),
    ]
    header = _header("Sets of letters: the first of a range and the first after it, in turn.")
    return header + "".join(
        _table(comment, f"char32_t {name}", map(hex, flips(letters)))
        for name, letters, comment in tables
    )


def _cases() -> str:
    mappings = [
        ("TOKENIZERS_LOWER", each(normalizers.Lowercase()), "Lower case of tokenizers"),
        ("PYTHON_LOWER", each_in_python(str.lower), "Lower case of Python"),
        ("FOLDED", each_in_python(str.casefold), "What str.casefold() makes"),
    ]
    pool = Pool()
    parts = [_header("Lower case.")]
    for name, mapping, comment in mappings:
        shifted = shifts(changed(mapping))
        long = pool.runs({code: text for code, text in mapping.items() if len(text) != 1})
        parts.append(_runs(f"{comment}: first, count, step, difference.", "Shift", name, shifted))
        comment = f"{comment}, of several letters: first, count, length, place in the pool."
        parts.append(_runs(comment, "Pooled", f"{name}_LONG", long))
    return "".join(parts) + _pool("CASE_POOL", pool)


def _decompositions(decomposed: Text) -> str:
    pool = Pool()
    runs = pool.runs(decomposed)
    comment = "Whole decompositions: first, count, length, place in the pool."
    return "".join(
        [
            _header("Canonical decompositions, but of Hangul, and the order of marks."),
            _table(
                "Canonical combining classes: a letter * 256 + the class that holds from it on.",
                "uint32_t CLASSES",
                _classes(),
            ),
            _runs(comment, "Pooled", "DECOMPOSED", runs),
            _pool("DECOMPOSED_POOL", pool),
        ]
    )


def _pool(name: str, pool: Pool) -> str:
    return _table("The letters of texts.", f"char32_t {name}", map(hex, pool.letters))


def _classes() -> Iterable[str]:
    """List where the combining class changes."""
    before = 0
    for code in range(sys.maxunicode + 1):
        found = unicodedata.combining(chr(code))
        if found != before:
            yield hex(code << 8 | found)
            before = found


if __name__ == "__main__":
    main()
