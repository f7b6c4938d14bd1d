"""How much a header sounds like the name of a column, whatever the words for the same thing; for drafts alone.

A name is taken apart into words, and words that mean the same count as one: `Sendungs-Nr.` and `tracking_num` are both
a parcel and a number. A file is never read by likeness: what is found goes into a config, where a person sees it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

_MEANINGS = {
    "number": "no nr num number numero nummer id code ref reference referenz key identifier",
    "parcel": "tracking track trk waybill awb consignment parcel package pck pkg paket packstuck sendung sendungs "
    "colis shipment barcode label item pin piece envio bulto",
    "order": "order orders auftrag auftrags bestell bestellung commande po purchase pedido",
    "status": "status state statut estado zustand event activity scan description milestone checkpoint stage",
    "day": "date day datum tag jour fecha data dt",
    "time": "time zeit uhrzeit heure hora timestamp clock at",
    "update": "update updated last latest letzte modified changed change anderung event scan activity status "
    "checkpoint maj",
    "deliver": "deliver delivered delivery zustell zustellung zugestellt livraison livre entrega",
    "receive": "receive received recieved receipt pickup picked collected collection abhol abholung shipped ship sent "
    "posted lodged induction accepted acceptance manifest manifested enlevement",
    "address": "address adresse anschrift addr street strasse direccion",
    "place": "location place city town ort ville ciudad depot site station hub facility terminal",
    "postcode": "zip postcode postal plz cp",
    "weight": "weight gewicht poids peso kg lbs",
    "amount": "amount price cost total value charge charges betrag preis wert montant importe",
    "count": "quantity qty pieces pcs count anzahl menge stuck",
    "name": "name recipient consignee receiver empfanger destinataire customer kunde client",
    "service": "service product produkt produit servicio",
    "carrier": "carrier courier vendor spediteur transporteur transportista",
    "country": "country land pays pais",
    "sign": "signed signature signatory pod unterschrift",
    "note": "note notes remark remarks comment comments bemerkung",
    "kind": "type kind class art category",
}
_MEANS: dict[str, frozenset[str]] = {}
for _meaning, _words in _MEANINGS.items():
    for _word in _words.split():
        _MEANS[_word] = _MEANS.get(_word, frozenset()) | {_meaning}

_NOISE_WORDS = "the of a an und and or to der die das des de la le du el local actual pro per current utc gmt"
_PLANNED_WORDS = "estimated expected scheduled planned promised eta due requested est voraussichtlich prevu"
_FIRST = frozenset(["created", "purchase", "purchased", "ordered", "placed", "paid", "payments", "birth", "erstellt"])
_NOISE, _PLANNED = frozenset(_NOISE_WORDS.split()), frozenset(_PLANNED_WORDS.split())
_COMPOUND = re.compile(
    "(.{3,}?)(nummer|nr|datum|uhrzeit|zeit|status|adresse|number|date|time|code|id|no|num|timestamp)$"
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORDS = re.compile(r"[^\W_]+|#")
_ALIKE = {frozenset({"day", "time"}): 0.5}


@cache
def words_of(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case and without accents; compounds such as `Sendungsnummer` are taken apart."""
    plain = unicodedata.normalize("NFKD", _CAMEL.sub(" ", name).replace("ß", "ss").replace("#", " no "))
    letters = "".join(char for char in plain if not unicodedata.combining(char)).lower()
    found: list[str] = []
    for word in _WORDS.findall(letters):
        split = None if word in _MEANS else _COMPOUND.match(word)
        found += split.groups() if split and _known(split[1]) else (word,)
    return tuple(word for word in found if word not in _NOISE)


def _known(word: str) -> bool:
    return word in _MEANS


def knows(name: str) -> bool:
    """Whether a name has a word that tells what a column holds."""
    return any(map(_known, words_of(name)))


def means(name: str, meaning: str) -> bool:
    """Whether one of a name's words has a meaning, such as `time`, `day`, `parcel` or `update`."""
    return any(meaning in _MEANS.get(word, ()) for word in words_of(name))


def likeness(header: str, name: str) -> float:
    """How much a header sounds like a column's name, from 0 (not at all) to 1 (the same words).

    Args:
        header: As in a file.
        name: Of a column of a contract.
    """
    left, right = words_of(header), list(words_of(name))
    if not left or not right or (_PLANNED.intersection(left) and not _PLANNED.intersection(right)):
        return 0.0
    total, whole = 0.0, len(left) + len(right)
    for word in left:
        near = max(right, key=lambda other: _same(word, other), default=None)
        if near is not None and (same := _same(word, near)):
            total += same
            right.remove(near)
    return 2 * total / whole


def _same(one: str, other: str) -> float:
    if one == other:
        return 1.0
    left, right = _MEANS.get(one, frozenset()), _MEANS.get(other, frozenset())
    if left & right:
        return 0.9
    return max((_ALIKE.get(frozenset({a, b}), 0.0) for a in left for b in right), default=0.0)


def first_or_planned(name: str) -> bool:
    """Whether a name says that a time is not the latest one: when something began, or is expected to be."""
    return bool({*_PLANNED, *_FIRST}.intersection(words_of(name)))


def matched(likes: Mapping[tuple[str, str], float], least: float) -> dict[str, str]:
    """For each name the header that is most like it, where each is the other's best and no other is as good.

    Args:
        likes: By (header, name), how alike they are.
        least: Less alike ones are not matched.
    """
    found: dict[str, str] = {}
    for (header, name), like in sorted(likes.items(), key=lambda item: -item[1]):
        if like < least or name in found or header in found.values():
            continue
        rivals = [
            other
            for (rival, wanted), other in likes.items()
            if (rival == header) != (wanted == name) and (wanted not in found) and (rival not in found.values())
        ]
        if all(other < like for other in rivals):
            found[name] = header
    return found


# --- statuses --------------------------------------------------------------------------------------------------------

_STAGES: dict[str, Sequence[str]] = {
    "ORDER_PLACED": ("order placed", "ordered", "order received", "order confirmed", "unfulfilled"),
    "LABEL_CREATED": (
        "label created", "shipping label created", "label printed", "label purchased", "pre shipment", "preshipment",
        "shipment information received", "shipment information sent to fedex", "electronic notification received",
        "order processed ready for ups", "shipper created a label ups has not received the package yet", "manifested",
        "data received", "parcel data received", "auftragsdaten ubermittelt", "manifest received",
        "shipping label created usps awaiting item", "the shipment data was entered", "sender preparing to dispatch",
        "electronic information submitted by shipper", "order information received", "information received",
    ),
    "PICKED_UP": (
        "picked up", "pickup", "collected", "collection", "accepted", "acceptance", "shipment picked up", "abgeholt",
        "origin scan", "item accepted", "usps in possession of item", "picked up by carrier", "fulfilled", "shipped",
        "item received", "we have your parcel", "posted",
    ),
    "IN_TRANSIT": (
        "in transit", "on the way", "departed", "departed facility", "arrived", "arrived at facility", "arrival scan",
        "departure scan", "in transit to next facility", "transit", "unterwegs", "in zustellung transport",
        "departed fedex location", "arrived at fedex location", "departed usps facility", "arrived at usps facility",
        "at depot", "at parcel delivery centre", "item processed", "processed", "arrived at sort facility",
        "arrived at hub", "item in transit", "in transport", "in depot", "en cours d acheminement", "en transito",
    ),
    "OUT_FOR_DELIVERY": (
        "out for delivery", "on vehicle for delivery", "on fedex vehicle for delivery", "with delivery courier",
        "item out for delivery", "in zustellung", "with driver", "out for delivery today", "en cours de livraison",
        "ready for delivery", "loaded on delivery vehicle", "en reparto",
    ),
    "EXCEPTION": (
        "exception", "delivery exception", "delayed", "delivery attempted", "attempted delivery", "failed attempt",
        "delivery attempt", "undeliverable", "shipment exception", "clearance event", "held", "on hold", "failure",
        "missed delivery", "failed delivery", "nicht zugestellt", "not delivered", "notice left", "damaged", "lost",
        "attempt failed", "attempted delivery notice card left indicating where item can be picked up",
    ),
    "DELIVERED": (
        "delivered", "zugestellt", "shipment delivered", "item delivered", "item successfully delivered", "livre",
        "delivered front door", "delivered in at mailbox", "delivered left with individual", "entregado", "pod",
        "package delivered", "delivered to neighbour", "delivered signed", "parcel delivered", "ausgeliefert",
        "delivered to the customer", "proof of delivery", "delivered to recipient",
    ),
    "RETURNED": (
        "returned", "returned to sender", "return to sender", "returned to shipper", "retoure", "rts", "returning",
        "item returned to sender", "return", "retour", "zuruckgesendet",
    ),
}  # fmt: skip


def _phrase(status: str) -> str:
    return " ".join(_WORDS.findall(" ".join(words_in(status))))


def words_in(text: str) -> tuple[str, ...]:
    """The words of a text, all of them, in lower case and without accents."""
    text = text if " " in text else _CAMEL.sub(" ", text)
    plain = unicodedata.normalize("NFKD", text.replace("_", " "))
    return tuple(_WORDS.findall("".join(char for char in plain if not unicodedata.combining(char)).lower()))


_STAGE_OF = {_phrase(phrase): stage for stage, phrases in _STAGES.items() for phrase in (stage, *phrases)}


def stage_of(status: str) -> str | None:
    """What a status certainly means, by its whole text: one of the order feed's statuses; None for others."""
    return _STAGE_OF.get(_phrase(status))


def maybe_stage_of(status: str) -> str | None:
    """What a status may mean, by the words in it; for a suggestion that a person decides about."""
    text = f" {_phrase(status)} "
    known = sorted(_STAGE_OF, key=len, reverse=True)
    return next((_STAGE_OF[phrase] for phrase in known if f" {phrase} " in text), None)
