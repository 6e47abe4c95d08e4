"""What a receiver's answer to one event means, and what somebody may do about it.

Splunk's codes are those of its documentation ("Troubleshoot HTTP Event Collector": possible error
codes); Elastic's types of errors are those of Elasticsearch's reference of the bulk API.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from archiver.forward.settings import Kind


class Meaning(NamedTuple):
    """What an answer means, and what to mend; both for people, the second may be empty."""

    means: str
    mend: str = ""


_CODE: Final = re.compile(r"code \d+", re.ASCII)
_COLLECTOR: Final = "look under Settings > Data inputs > HTTP Event Collector, and at token_env or token_file"
_INDEX: Final = "create the index, add it to those that the token may write to, or change index"
_KEY: Final = "make a new API key (Kibana: Stack Management > API keys), and put it where the token is"
_MAPPING: Final = (
    "look at the index template: give that field another type, or let it be ignored (ignore_malformed,"
    ' a larger limit of fields); or send another form (body = "ecs") or another index'
)

# By kind: texts that an answer may hold, most telling first.
_TOLD: Final[dict[Kind, tuple[tuple[str, Meaning], ...]]] = {
    "elastic": (
        (
            "index_not_found_exception",
            Meaning(
                "There is no such index, and none may be created by writing.",
                "create the index or data stream",
            ),
        ),
        ("index_closed_exception", Meaning("The index is closed.", "open it, or change index")),
        (
            "cluster_block_exception",
            Meaning("The index takes no writes now.", "is its disk full, or is it read-only?"),
        ),
        ("parsing_exception", Meaning("A field of the event does not fit the index's mapping.", _MAPPING)),
        (
            "strict_dynamic_mapping_exception",
            Meaning("The mapping takes no fields it does not know.", _MAPPING),
        ),
        (
            "illegal_argument_exception",
            Meaning("Elastic takes no such document in this index: see what it says.", _MAPPING),
        ),
    ),
    "splunk": (),
    "datadog": (),
    "logstash": (),
    "http": (),
}

# By kind: of Splunk also its own codes, which say more than the status.
_ANSWERS: Final[dict[Kind, dict[str, Meaning]]] = {
    "splunk": {
        "code 1": Meaning("The token is disabled.", "enable it: " + _COLLECTOR),
        "code 2": Meaning("No token arrived.", "does a proxy between take the Authorization header away?"),
        "code 3": Meaning(
            "The Authorization header is not as Splunk wants it.", "does a proxy between change it?"
        ),
        "code 4": Meaning("Splunk knows no such token.", _COLLECTOR),
        "code 5": Meaning("Nothing arrived.", "does a proxy between take the body away?"),
        "code 6": Meaning(
            "Splunk could not read the event.", "is it Splunk, or something that only looks like it?"
        ),
        "code 7": Meaning("There is no such index, or the token may not write to it.", _INDEX),
        "code 8": Meaning("Splunk failed inside.", "look into splunkd.log"),
        "code 9": Meaning("Splunk is busy. Such a request is repeated later.", "are its queues full?"),
        "code 10": Meaning(
            "The token is one with indexer acknowledgement.",
            "set acknowledge = true, or turn it off for the token",
        ),
        "code 11": Meaning("Splunk does not take our channel.", "does a proxy between change headers?"),
        "code 14": Meaning(
            "The token has no indexer acknowledgement.",
            "set acknowledge = false, or turn it on for the token",
        ),
        "code 15": Meaning("Splunk does not take the event's indexed fields.", "look into splunkd.log"),
        "code 23": Meaning("Splunk is shutting down. Such a request is repeated later."),
        "unconfirmed": Meaning(
            "Splunk has the event, but did not confirm in time that it is indexed.",
            "do its indexers keep up? without acknowledge = true it counts as taken now",
        ),
        "404": Meaning(
            "There is no event collector at this URL.",
            "url is scheme, host and port, such as https://hec.example.com:8088, without a path",
        ),
    },
    "datadog": {
        "401": Meaning("Datadog wants a key.", "is the token an API key?"),
        "403": Meaning(
            "Datadog does not know this API key.",
            "is it an API key, not an application key? and of this site? each has its own: see site",
        ),
        "404": Meaning(
            "There is no log intake at this URL.", "is site right? leave url out unless it is a proxy"
        ),
        "413": Meaning("Datadog finds the event too large."),
    },
    "elastic": {
        "401": Meaning("Elastic does not know this key, or this user and password.", _KEY),
        "403": Meaning(
            "Elastic does not let this key or user write there.",
            "give it the privileges auto_configure and create_doc on the index",
        ),
        "404": Meaning(
            "There is no bulk API at this URL, or no such index.",
            "url is scheme, host, port and at most the path below which Elasticsearch is, without /_bulk",
        ),
    },
    "logstash": {
        "401": Meaning(
            "Logstash wants another user or password.",
            "compare them with user and password of its http input",
        ),
        "404": Meaning(
            "Something else listens there, or a proxy knows no such path.", "look at the input's port"
        ),
        "429": Meaning(
            "Logstash's queue is full. Such a request is repeated later.",
            "does its output keep up, or stand still?",
        ),
    },
    "http": {
        "401": Meaning(
            "The receiver does not know who sends.",
            "compare token, user and password, or the secret that signs",
        ),
        "404": Meaning("The receiver knows no such path.", "url is sent to as it stands: is its path right?"),
    },
}

_GENERAL: Final[dict[str, Meaning]] = {
    "refused": Meaning("Nothing listens there.", "is the receiver running, and is the port right?"),
    "unreachable": Meaning(
        "There is no way to it.", "is the name right? does a firewall or a route lead there?"
    ),
    "timeout": Meaning(
        "It did not answer in time. It may have taken the event all the same.",
        "does a firewall swallow what is sent? is the receiver overloaded? then timeout_seconds may help",
    ),
    "reset": Meaning(
        "The connection was cut. It may have taken the event all the same.",
        "does it speak https, and the URL say http? does a proxy cut connections?",
    ),
    "tls": Meaning(
        "No trusted connection could be made; nothing was sent.",
        "for a certificate of your own name the file of its authority: ca_file",
    ),
    "400": Meaning("The receiver does not take such a request.", "is it of this type, or something else?"),
    "401": Meaning("The receiver does not know who sends.", "is the token right?"),
    "403": Meaning(
        "The receiver does not let this token write there.", "give it that right, or another token"
    ),
    "404": Meaning("The receiver knows no such path.", "is url right?"),
    "405": Meaning("That path takes no POST.", "is url right?"),
    "407": Meaning("A proxy between wants to know who sends.", "name a URL that is reached without it"),
    "413": Meaning("Too large for the receiver.", "raise its limit; for requests lower batch_bytes"),
    "429": Meaning(
        "The receiver wants less. Such a request is repeated later.", "max_per_second makes it slower"
    ),
}


def meaning(kind: Kind, answer: str, text: str) -> Meaning:
    """Return what an answer of this kind of receiver means.

    Args:
        answer: It begins with a status or with what happened instead of an answer; a code of Splunk's
            may follow: `403 code 4`, `refused`.
        text: What the receiver said, whole.
    """
    for part, found in _TOLD[kind]:
        if part in text:
            return found
    code = _CODE.search(answer)
    keys = [code[0], answer.partition(" ")[0]] if code else [answer.partition(" ")[0]]
    for key in keys:
        for table in (_ANSWERS[kind], _GENERAL):
            if key in table:
                return table[key]
    status = next((int(key) for key in keys if key.isdecimal()), 0)
    if 200 <= status < 300:
        return Meaning(
            f"Something answered {status}, but not as {kind} does.",
            "is there a proxy or a login page between? is it the right port?",
        )
    if 300 <= status < 400:
        return Meaning(
            "It sends us elsewhere, and a redirection is not followed.", "name the place it leads to in url"
        )
    if status >= 500:
        return Meaning("The receiver, or a proxy before it, failed. Such a request is repeated later.")
    return Meaning("The receiver did not take the event.", "see what it says")
