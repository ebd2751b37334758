"""Operations on users, keys, firms, roles and account states: their arguments. They are changes of PostgreSQL, not commands."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from gateway.control.messages import Args, NoArgs, Number, Text

Long = Annotated[str, Meta(max_length=256)]
Few = Annotated[tuple[Text, ...], Meta(max_length=64)]


class SignIn(Args):
    """An operator signs in on this connection. ``code``: of the authenticator, or a recovery code."""

    name: Text
    password: Long
    code: Text = ""


class OwnPassword(Args):
    """The operator who signed in chooses another password."""

    password: Long
    new: Long


class OwnTotp(Args):
    """The operator who signed in gets an authenticator: without ``code`` a secret, with its first code the recovery codes."""

    code: Text = ""


class UserCreate(Args):
    """A client; without ``password`` one is made and shown once. A temporary one is good for choosing another one only."""

    name: Text
    firm: Text = ""
    password: Long | None = None
    temporary: bool = True


class OfUser(Args):
    """Operations on one user or operator."""

    user: Text


class AccountAttach(Args):
    """Make an account of the engine a user's: the first one is the main account, further ones are sub-accounts."""

    user: Text
    account: int | Text
    label: Text = ""


class SessionRevoke(Args):
    """End a session of a user, or with 0 all."""

    user: Text
    session: Number = 0


class KeyCreate(Args):
    """A key or credential. ``public_key`` (PEM) for ed25519 and rsa, whose private half stays where it is."""

    user: Text
    kind: Literal["hmac", "ed25519", "rsa", "fix", "binary"] = "hmac"
    permissions: Few = ("read", "trade")
    key_id: Text | None = None
    label: Text = ""
    networks: Few = ()
    accounts: Annotated[tuple[int | Text, ...], Meta(max_length=64)] = ()
    expires_ns: Number = 0
    public_key: Annotated[str, Meta(max_length=4096)] = ""
    comp_id: Text = ""


class OfKey(Args):
    """Operations on one key."""

    key_id: Text


class KeyList(Args):
    """Query: keys of a user."""

    user: Text


class FirmCreate(Args):
    """A firm."""

    name: Text


class FirmAssign(Args):
    """Put a user into a firm; "" takes it out."""

    user: Text
    firm: Text = ""


class Restrict(Args):
    """Set an account state of a user, an account or a firm: one of them. ``text`` is what the user is told."""

    scopes: Few
    text: Annotated[str, Meta(max_length=200)]
    user: Text | None = None
    account: int | Text | None = None
    firm: Text | None = None
    expires_ns: Number = 0


class Lift(Args):
    """End an account state."""

    state: Number


class OperatorCreate(Args):
    """An operator with roles, and a password that is shown once."""

    name: Text
    roles: Few = ()
    password: Long | None = None
    temporary: bool = True


class OperatorRoles(Args):
    """Other roles of an operator, all of them."""

    name: Text
    roles: Few


class Proposals(Args):
    """Query: what waits for a second operator, or everything."""

    all: bool = False


class OfProposal(Args):
    """Approve or deny a proposal."""

    proposal: Number


class AccessEvents(Args):
    """Query: the history, the newest first; of one subject, such as "user alice"."""

    subject: Text = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


class Unban(Args):
    """End a ban for calling too often: of an address, a key or an account, one of them."""

    ip: Text | None = None
    key: Text | None = None
    account: int | Text | None = None


ACCESS_ARGS: Final[dict[str, type[Args]]] = {
    "sign_in": SignIn,
    "own_password": OwnPassword,
    "own_totp": OwnTotp,
    "user_create": UserCreate,
    "user_close": OfUser,
    "user_password": OfUser,
    "user_factors": OfUser,
    "user_list": NoArgs,
    "user_show": OfUser,
    "account_attach": AccountAttach,
    "session_revoke": SessionRevoke,
    "key_create": KeyCreate,
    "key_revoke": OfKey,
    "key_list": KeyList,
    "key_show": OfKey,
    "firm_create": FirmCreate,
    "firm_assign": FirmAssign,
    "firm_list": NoArgs,
    "restrict": Restrict,
    "lift": Lift,
    "operator_create": OperatorCreate,
    "operator_roles": OperatorRoles,
    "role_list": NoArgs,
    "proposals": Proposals,
    "approve": OfProposal,
    "deny": OfProposal,
    "access_events": AccessEvents,
    "rate_limits": NoArgs,
    "unban": Unban,
}
ACCESS_QUERIES: Final = frozenset(
    {
        "user_list",
        "user_show",
        "key_list",
        "key_show",
        "firm_list",
        "role_list",
        "proposals",
        "access_events",
        "rate_limits",
    }
)
WITHOUT_REASON: Final = frozenset({"sign_in", "own_password", "own_totp"})
"""What an operator does about itself."""
