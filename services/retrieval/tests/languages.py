"""Sentences in many languages, with a word in two of its forms."""

from __future__ import annotations

from typing import NamedTuple


class Sentence(NamedTuple):
    """A text of a language; `form` is in it, and `asked` is another form of that word, which is not."""

    language: str
    text: str
    form: str
    asked: str


SENTENCES = (
    Sentence(
        "english",
        "The owner of the vessels shall pay the harbour dues before they leave the port, unless agreed otherwise.",
        "vessels",
        "vessel",
    ),
    Sentence(
        "german",
        "Der Eigentümer der Häuser zahlt die Gebühren, bevor er Schlüssel erhält, sofern nichts anderes bestimmt ist.",
        "Häuser",
        "Haus",
    ),
    Sentence(
        "french",
        "Le propriétaire de la maison paie les droits avant que le locataire ne quitte le lieu, sauf accord contraire.",
        "maison",
        "maisons",
    ),
    Sentence(
        "spanish",
        "El propietario de las casas pagará los impuestos antes de la venta, salvo que el contrato disponga otra cosa.",
        "casas",
        "casa",
    ),
    Sentence(
        "italian",
        "Il proprietario della nave paga i diritti portuali prima che lasci il porto, salvo diversa disposizione.",
        "nave",
        "navi",
    ),
    Sentence(
        "portuguese",
        "O proprietário dos navios paga as taxas portuárias antes de deixarem o porto, salvo disposição em contrário.",
        "navios",
        "navio",
    ),
    Sentence(
        "dutch",
        "De eigenaar van de boeken betaalt de kosten voordat hij de winkel verlaat, tenzij anders is overeengekomen.",
        "boeken",
        "boek",
    ),
    Sentence(
        "swedish",
        "Ägaren av fartyget betalar hamnavgifterna innan flickorna lämnar hamnen, om inte avtalet säger något annat.",
        "flickorna",
        "flicka",
    ),
    Sentence(
        "danish",
        "Ejeren betaler havneafgifterne, før hundene forlader skibet, medmindre aftalen siger noget andet om det.",
        "hundene",
        "hund",
    ),
    Sentence(
        "norwegian",
        "Eieren av skipet betaler havneavgiftene før hundene forlater havnen, med mindre avtalen sier noe annet.",
        "hundene",
        "hund",
    ),
    Sentence(
        "finnish",
        "Omistaja asuu vanhassa talossa ja maksaa satamamaksut ennen kuin laiva lähtee, ellei sovita toisin.",
        "talossa",
        "talot",
    ),
    Sentence(
        "hungarian",
        "A tulajdonos a régi házban lakik, és fizeti a kikötői díjakat, kivéve ha a szerződés másként rendelkezik.",
        "házban",
        "házak",
    ),
    Sentence(
        "romanian",
        "Proprietarul cărții plătește taxele portuare înainte ca nava să părăsească portul, dacă nu se prevede altfel.",
        "cărții",
        "cărți",
    ),
    Sentence(
        "turkish",
        "Sözleşmede aksi belirtilmedikçe, kitaplar limandan ayrılmadan önce sahibi tarafından ücretleri ödenir.",
        "kitaplar",
        "kitap",
    ),
    Sentence(
        "russian",
        "Владелец торгует книгами и оплачивает портовые сборы до выхода судна, если договором не предусмотрено иное.",
        "книгами",
        "книга",
    ),
    Sentence(
        "greek",
        "Ο ιδιοκτήτης του πλοίου πληρώνει τα τέλη πριν το πλοίο φύγει από τα λιμάνια της χώρας.",
        "λιμάνια",
        "λιμάνι",
    ),
    Sentence(
        "arabic",
        "يدفع مالك السفينة رسوم الميناء ويأخذ الكتاب قبل مغادرة السفينة ما لم ينص الاتفاق على خلاف ذلك.",
        "الكتاب",
        "كتاب",
    ),
    Sentence(
        "hindi",
        "जहाज का मालिक बंदरगाह छोड़ने से पहले शुल्क का भुगतान करेगा और लड़के उसकी मदद करेंगे।",
        "लड़के",
        "लड़का",
    ),
    Sentence(
        "indonesian",
        "Pemilik kapal membaca bukunya dan membayar biaya pelabuhan sebelum kapal meninggalkan pelabuhan itu.",
        "bukunya",
        "buku",
    ),
    Sentence(
        "lithuanian",
        "Laivo savininkas skaito knygą ir sumoka rinkliavas prieš laivui išplaukiant, jei sutartyje nenumatyta kitaip.",
        "knygą",
        "knygos",
    ),
)
