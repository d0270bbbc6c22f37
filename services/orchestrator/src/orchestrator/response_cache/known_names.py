"""Names that are the same word in small letters: `france` is a country, while `turkey` may be a bird.

A prompt of small letters may get the answer to one with capitals only for these. Left out is each that is also another
word, or another name: `georgia`, `polish`, `may`, `rust`, `go`.
"""

from typing import Final

from orchestrator.response_cache.prompt_quantities import split_words

ALWAYS_NAMES: Final = frozenset(
    split_words(
        "afghanistan albania algeria angola argentina armenia australia austria azerbaijan bangladesh belarus "
        "belgium bolivia brazil bulgaria cambodia cameroon canada chile colombia croatia cyprus denmark ecuador "
        "egypt estonia ethiopia finland france germany ghana greece hungary iceland india indonesia iran iraq "
        "ireland israel italy japan kazakhstan kenya kuwait latvia lebanon libya lithuania luxembourg malaysia "
        "malta mexico moldova mongolia morocco mozambique myanmar nepal netherlands nicaragua nigeria norway "
        "pakistan paraguay peru philippines poland portugal qatar romania russia rwanda senegal serbia singapore "
        "slovakia slovenia somalia spain sudan sweden switzerland syria taiwan tanzania thailand tunisia uganda "
        "ukraine uruguay uzbekistan venezuela vietnam yemen zambia zimbabwe africa asia europe amsterdam athens "
        "barcelona beijing berlin brussels budapest copenhagen dublin frankfurt hamburg helsinki istanbul lisbon "
        "london madrid moscow munich oslo prague seoul shanghai stockholm tokyo vienna warsaw zurich dutch english "
        "german italian japanese korean norwegian portuguese russian spanish swedish ukrainian monday tuesday "
        "wednesday thursday friday saturday sunday january february april june july september october november "
        "december linux javascript typescript kubernetes postgresql mysql shakespeare einstein"
    )
)
