"""Where grave faults are likely: words to look for in what a commit adds. The analyzers say whether one is there.

Criticals are about one line in two thousand, so histories are searched for commits that may hold one; records that
came that way say so, since lines drawn on purpose tell nothing of how frequent a concept is.
"""

import re
from typing import Final

_WORDS: Final = (
    rb"(?i:\b(select|insert|update|delete)\b.{0,80}\b(from|into|set|where)\b)",
    rb"shell\s*=\s*True|os\.system\(|os\.popen|getoutput|child_process|exec(Sync|File)?\(|\bpopen\s*\(|\bsystem\s*\(",
    rb"getRuntime|ProcessBuilder|exec\.Command",
    rb"verify\s*=\s*False|_unverified|CERT_NONE|AutoAddPolicy|rejectUnauthorized|TLS_REJECT|InsecureSkipVerify",
    rb"HostnameVerifier|VERIFY(PEER|HOST|_NONE)|no-check-certificate|--insecure|curl\b.*\s-\w*k|sslVerify",
    rb"pickle|yaml\.load\(|marshal|dill|shelve|extractall|ObjectInputStream|readObject|XMLDecoder",
    rb"\beval\b|\bexec\s*\(|new Function|set(Timeout|Interval)\(\s*[\"']",
    rb"(?i:passw(or)?d|passwd|secret|token|api_?key)\w*[\"']?\s*[:=]",
    rb"chmod|0o?7[0-7]7|0o?666|umask|S_IRWXO|makedirs|MkdirAll|WriteFile",
    rb"Markup|autoescape|mark_safe|innerHTML|outerHTML|document\.write|insertAdjacentHTML|template\.(HTML|JS|URL)",
    rb"rm\s+-\w*r|\|\s*(sudo\s+)?(ba)?sh\b|(ba)?sh\s+<\(|\$\((curl|wget)",
    rb"\b(str(n?cpy|n?cat)|v?sprintf|gets|v?f?s?scanf)\s*\(",
    rb"\b(f|v|s|sn|vs|vsn|as|vf)?printf\s*\(\s*[^\"]*\)|syslog\s*\(",
    rb"jwt|algorithms?\s*[:=].{0,20}none|verify_signature",
)
_LINE: Final = re.compile(rb"|".join(_WORDS))
_CHARS: Final = 400  # of a line that are looked through


def in_patch(patch: bytes) -> bool:
    """Whether some added line of the patch has one of the words."""
    added = (line[1:_CHARS] for line in patch.split(b"\n") if line.startswith(b"+") and not line.startswith(b"+++ "))
    return _LINE.search(b"\n".join(added)) is not None


def in_line(text: str) -> bool:
    """Whether the line has one of the words."""
    return _LINE.search(text[:_CHARS].encode("utf-8", "replace")) is not None
