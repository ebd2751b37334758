"""Why something was denied: a number that never changes, a name, and a text that a gateway may show."""

from __future__ import annotations

from typing import Final

BAD_CREDENTIALS: Final = 301
SECOND_FACTOR: Final = 302
CODE_USED: Final = 303
KEY_EXPIRED: Final = 304
KEY_REVOKED: Final = 305
ADDRESS_NOT_ALLOWED: Final = 306
SESSION_EXPIRED: Final = 307
SESSION_REVOKED: Final = 308
NOT_YOUR_ACCOUNT: Final = 309
KEY_OTHER_ACCOUNT: Final = 310
PERMISSION_MISSING: Final = 311
RESTRICTED: Final = 312
USER_CLOSED: Final = 313
PASSWORD_TEMPORARY: Final = 314
SIGN_IN_NEEDED: Final = 315
ROLE_MISSING: Final = 316
APPROVAL_NEEDED: Final = 317
OWN_PROPOSAL: Final = 318
PROPOSAL_CLOSED: Final = 319
NAME_TAKEN: Final = 320
UNKNOWN_NAME: Final = 321
BAD_VALUE: Final = 322
UNAVAILABLE: Final = 323
TOO_MANY: Final = 324
RATE_LIMITED: Final = 325
STARTING: Final = 330
CHANGE_UNKNOWN: Final = 331

TEXT: Final[dict[int, str]] = {
    # One text for an unknown name, a wrong password, an unknown key and a wrong signature: which it was helps only who guesses.
    BAD_CREDENTIALS: "name, password, key or signature is wrong",
    SECOND_FACTOR: "a second factor is needed: a code of the authenticator, a recovery code or a passkey",
    CODE_USED: "the code is wrong or was used before; each works once",
    KEY_EXPIRED: "the key has expired",
    KEY_REVOKED: "the key was revoked",
    ADDRESS_NOT_ALLOWED: "the key may not be used from this address",
    SESSION_EXPIRED: "the session has expired; sign in again",
    SESSION_REVOKED: "the session was ended; sign in again",
    NOT_YOUR_ACCOUNT: "the account is not yours",
    KEY_OTHER_ACCOUNT: "the key is for other accounts",
    PERMISSION_MISSING: "the key or session does not have the permission",
    RESTRICTED: "the account is restricted",
    USER_CLOSED: "the user was closed",
    PASSWORD_TEMPORARY: "the password was set by somebody else; choose one of your own first",
    SIGN_IN_NEEDED: "this is the name of a registered operator, who must sign in first",
    ROLE_MISSING: "none of the operator's roles may do this",
    APPROVAL_NEEDED: "another operator must approve this",
    OWN_PROPOSAL: "nobody approves what they proposed themselves",
    PROPOSAL_CLOSED: "the proposal was decided before or has expired",
    NAME_TAKEN: "the name, key or account is taken",
    UNKNOWN_NAME: "there is nothing of this name or number",
    BAD_VALUE: "a value is not as it must be",
    UNAVAILABLE: "the database of users is away; try again",
    TOO_MANY: "there are as many as may be",
    RATE_LIMITED: "there were too many attempts; wait and try again",
    STARTING: "the users have not been read from their database since the start; try again in a moment",
    CHANGE_UNKNOWN: "the database of users went away in the middle; look whether the change was made",
}
NAME: Final[dict[int, str]] = {
    value: name for name, value in sorted(globals().items()) if name.isupper() and isinstance(value, int)
}
assert NAME.keys() == TEXT.keys()


class Denied(Exception):
    """An act is refused.

    Attributes
    ----------
    code : int
        Of this module.
    detail : str
        What is special to this case; may be shown, and never has a secret.
    """

    def __init__(self, code: int, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{TEXT[code]}: {detail}" if detail else TEXT[code])
