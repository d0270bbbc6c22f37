"""Plain texts in the encodings that files have. None of them says which."""

from __future__ import annotations

import codecs

from services.retrieval.tests.corpus.samples import Sample

DETECTED = "detected_encoding"
RUSSIAN = "Договор поставки оборудования. Покупатель обязуется оплатить товар в течение десяти дней."
JAPANESE = "これは日本語の文書です。請求書の支払期限は月末です。株式会社サンプル"
CHINESE = "本合同由甲乙双方签订。货款应在十日内支付，逾期按日计收违约金。"
TAIWANESE = "本合約由甲乙雙方簽訂。貨款應在十日內支付，逾期按日計收違約金。"
KOREAN = "이 계약은 갑과 을 사이에 체결됩니다. 대금은 열흘 이내에 지급해야 합니다."
CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy. Smlouva je platná třicet dnů."
GREEK = "Η σύμβαση ισχύει για τριάντα ημέρες. Ο αγοραστής πληρώνει σε δέκα ημέρες."
TURKISH = "Sözleşme otuz gün geçerlidir. Alıcı ödemeyi on gün içinde yapar. İğne ışık"
HEBREW = "החוזה תקף לשלושים יום. הקונה ישלם תוך עשרה ימים."
ARABIC = "العقد صالح لمدة ثلاثين يوما. يدفع المشتري خلال عشرة أيام."
THAI = "สัญญามีผลสามสิบวัน ผู้ซื้อชำระเงินภายในสิบวัน"
GERMAN = "Größe, naïve café – “5 €”."
ENGLISH = "The contract between the parties is valid. "


def plain(text: str, encoding: str, *warnings: str, name: str = "") -> Sample:
    return Sample(name or encoding, "a.txt", text.encode(encoding), " ".join(text.split()), frozenset(warnings))


SAMPLES = [
    plain(RUSSIAN, "utf-8"),
    Sample(
        "soft hyphens inside of words, and at the ends of lines",
        "a.txt",
        "Ein Wert\xadpapier, Immo\xad\nbilien und Po\n\xad\n  litik\xad".encode(),
        "Ein Wertpapier, Immobilien und Politik",
    ),
    plain(RUSSIAN, "utf-8-sig"),
    plain(RUSSIAN, "utf-16"),
    plain(RUSSIAN, "utf-32"),
    Sample("utf-16-be by its mark", "a.txt", codecs.BOM_UTF16_BE + RUSSIAN.encode("utf-16-be"), RUSSIAN),
    plain(GERMAN, "utf-16-le", name="utf-16-le without a mark"),
    plain(GERMAN, "utf-16-be", name="utf-16-be without a mark"),
    plain(JAPANESE, "iso2022_jp", name="iso-2022-jp by its escapes"),
    plain(RUSSIAN, "cp1251", DETECTED),
    plain(RUSSIAN, "koi8-r", DETECTED),
    plain(JAPANESE, "cp932", DETECTED),
    plain(JAPANESE, "euc_jp", DETECTED),
    plain(CHINESE, "gbk", DETECTED),
    plain(TAIWANESE, "big5", DETECTED),
    plain(KOREAN, "cp949", DETECTED),
    plain(CZECH, "cp1250", DETECTED),
    plain(GREEK, "cp1253", DETECTED),
    plain(TURKISH, "cp1254", DETECTED),
    plain(HEBREW, "cp1255", DETECTED),
    plain(ARABIC, "cp1256", DETECTED),
    plain(THAI, "cp874", DETECTED),
    plain(GERMAN, "cp1252", DETECTED),
    plain(ENGLISH * 2_000 + "Café.", "cp1252", DETECTED, name="one letter of windows-1252 after much ASCII"),
    plain("Счёт №5", "cp1251", DETECTED, name="two words of windows-1251"),
    plain("請求書", "cp932", DETECTED, name="three characters of Shift_JIS"),
    plain("合同编号", "gbk", DETECTED, name="four characters of GBK"),
    Sample(
        "UTF-8 with one damaged byte",
        "a.txt",
        RUSSIAN.encode() * 5 + b"\xff",
        RUSSIAN * 5,
        frozenset({"unreadable_bytes"}),
    ),
    Sample(
        "ASCII with one damaged byte",
        "a.txt",
        ENGLISH.encode() * 9 + b"\x81 End.",
        " ".join((ENGLISH * 9 + " End.").split()),
        frozenset({"unreadable_bytes"}),
    ),
    Sample("Markdown in windows-1251", "a.md", f"# {RUSSIAN}".encode("cp1251"), RUSSIAN, frozenset({DETECTED})),
]
