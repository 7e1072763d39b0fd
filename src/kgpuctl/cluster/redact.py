"""Taking credentials out of free text: events, container messages and logs.

What has fields of its own is never read where it could hold a secret; only text that programs wrote
for people comes through here, before it is kept, judged, printed or recorded.
"""

import re
from typing import Final

GONE: Final = "[redacted]"

_NAME: Final = (
    r"[\w.-]{0,64}(?:token|passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key|"
    r"private[_-]?key|credentials?|client[_-]?key(?:-data)?|authorization|dockerconfigjson)[\w.-]{0,64}"
)
# After "token:" these go on with a sentence: what went wrong with it, not what it is.
_PROSE: Final = (
    r"(?:unexpected|failed|expired|invalid|not|no|the|is|was|missing|unable|error|denied|could|"
    r"cannot|server|insufficient_scope|serviceaccounts?|secrets?)"
)
_RULES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE if loose else 0), replacement)
    for pattern, replacement, loose in (
        (
            r"-----BEGIN [A-Z ]{0,40}-----[^-]{0,16384}(?:-----END [A-Z ]{0,40}-----)?",
            GONE,
            False,
        ),
        (r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", rf"\1 {GONE}", True),
        (r"://[^/\s:@\"']{0,256}:[^/\s@\"']{1,1024}@", f"://{GONE}@", False),
        # A quoted value may hold blanks.
        (
            rf"((?<![\w.-]){_NAME}[\\\"']{{0,2}}\s{{0,4}}[:=]\s{{0,4}}\\?\")(?!\[redacted\])[^\"\\]{{1,4096}}",
            rf"\1{GONE}",
            True,
        ),
        (
            rf"((?<![\w.-]){_NAME}[\\\"']{{0,2}}\s{{0,4}}[:=]\s{{0,4}}')(?!\[redacted\])[^']{{1,4096}}",
            rf"\1{GONE}",
            True,
        ),
        (
            r"([?&](?:sig|signature|x-amz-signature|x-goog-signature)=)[^&\s\"']{1,4096}",
            rf"\1{GONE}",
            True,
        ),
        (r"((?:set-)?cookie:\s{0,4})[^\r\n\"']{1,4096}", rf"\1{GONE}", True),
        (
            r"(\bcurl\b[^\n]{0,256}\s(?:-u|--user)[\s=]{1,4}[^\s:]{1,256}:)[^\s\"']{1,1024}",
            rf"\1{GONE}",
            True,
        ),
        # name=value, name: value, "name": "value", --name value
        (
            rf"((?<![\w.-]){_NAME}[\\\"']{{0,2}}\s{{0,4}}[:=]\s{{0,4}}[\\\"']{{0,2}})(?!\[redacted\]|{_PROSE}\b)[^\s\"',;&}}\\]{{1,4096}}",
            rf"\1{GONE}",
            True,
        ),
        (rf"(?<![\w-])(--{_NAME}\s{{1,4}})(?![\[-])[^\s\"',;]{{1,4096}}", rf"\1{GONE}", True),
        (r"(\"auth\\?\"\s{0,4}:\s{0,4}\\?\")[^\"\\]{1,4096}", rf"\1{GONE}", True),
        (r"\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]{0,})?", GONE, False),
        (
            r"\b(?:nvapi-|ghp_|gho_|github_pat_|glpat-|xox[abp]-|hf_|sk-|AKIA|ASIA)[\w-]{10,}",
            GONE,
            False,
        ),
        # A line of a key whose beginning is further up than the text goes.
        (
            (
                r"(?<![\w+/=.-])(?=[a-z0-9+/]{0,400}[A-Z])(?=[A-Z0-9+/]{0,400}[a-z])"
                r"(?=[A-Za-z+/]{0,400}\d)[A-Za-z0-9+/]{60,}={0,2}(?![\w+/=.-])"
            ),
            GONE,
            False,
        ),
        # What is long, mixed and no path, name or digest: a key or an encoded credential.
        (
            r"(?<![\w+=/-])(?=[^\W_]{0,200}[A-Z])(?=[\w+-]{0,200}[a-z])(?=[\w+-]{0,200}\d)[\w+-]{40,}={0,2}(?![\w/-])",
            GONE,
            False,
        ),
    )
)


def redact(text: str) -> str:
    """Return the text without what looks like a credential."""
    if len(text) < 8:  # noqa: PLR2004  # nothing that short is one
        return text
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
