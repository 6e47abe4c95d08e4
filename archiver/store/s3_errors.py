"""What went wrong in S3, in our words: which object, which permission, what to do.

No message quotes a header or a credential: of an answer only its code and status are told.
"""

from __future__ import annotations

from botocore import exceptions as aws

from archiver.errors import (
    ArchiverError,
    ConfigError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreError,
    WriteOutcomeUnknownError,
)

# Everything that botocore and the HTTP client below it raise.
FAILURES = (aws.ClientError, aws.BotoCoreError)

# Nobody found credentials, or what was found is no configuration.
_NOT_CONFIGURED = (
    aws.NoCredentialsError,
    aws.NoAuthTokenError,
    aws.PartialCredentialsError,
    aws.ProfileNotFound,
    aws.ConfigParseError,
    aws.ConfigNotFound,
    aws.UnknownCredentialError,
    aws.NoRegionError,
    aws.InvalidRegionError,
    aws.InvalidConfigError,
    aws.MissingDependencyException,
    aws.SSOError,
    aws.LoginError,
)
# There should be credentials, but their source did not give them now.
_NO_CREDENTIALS_NOW = (aws.CredentialRetrievalError, aws.MetadataRetrievalError, aws.TokenRetrievalError)
_CREDENTIALS_HINT = (
    "credentials come from the usual AWS chain: "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role"
)
_BAD_CREDENTIALS = {
    "InvalidAccessKeyId": "the server does not know this access key",
    "SignatureDoesNotMatch": "the secret key is wrong, or something on the way alters requests",
    "ExpiredToken": "the temporary credentials are over: get new ones",
    "ExpiredTokenException": "the temporary credentials are over: get new ones",
    "InvalidToken": "the session token is not that of the access key",
    "TokenRefreshRequired": "the temporary credentials are over: get new ones",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it, S3 takes 15 minutes at most",
}
_REGION_HINT = "the bucket lies in another region or behind another endpoint: set them"
_OTHER_CODES = {
    "InvalidObjectState": "the object was moved to a cold storage class: restore it first",
    **dict.fromkeys(("PermanentRedirect", "TemporaryRedirect", "301", "307"), _REGION_HINT),
    "AuthorizationHeaderMalformed": _REGION_HINT,
}


def status_of(error: Exception) -> int:
    """HTTP status of the answer, or 0 when there was none."""
    if not isinstance(error, aws.ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: Exception) -> str:
    """The answer's error code (`SlowDown`), its status where it had none, or the kind of failure."""
    if not isinstance(error, aws.ClientError):
        return type(error).__name__
    return str(error.response.get("Error", {}).get("Code") or status_of(error))


def is_bad_credentials(error: Exception) -> bool:
    """Whether the server refused the credentials themselves, not what they were used for."""
    return code_of(error) in _BAD_CREDENTIALS


def permission_hint(permission: str) -> str:
    if permission == "s3:GetObject":
        return "grant s3:GetObject; and s3:ListBucket, without which a missing object answers 403 too"
    return f"grant {permission} on it to the credentials in use, and look for a policy that denies it"


def translate(error: Exception, where: str, permission: str) -> ArchiverError:
    """Return the error to raise for a failure that is final.

    Args:
        error: One of `FAILURES`.
        where: `s3://bucket/key`.
        permission: The IAM permission that the call needs.
    """
    status, code = status_of(error), code_of(error)
    if status == 0:
        return _without_answer(error, where)
    if code == "NoSuchBucket":
        return StoreError(f"{where}: there is no such bucket", hint="create the bucket, or correct its name")
    if status == 404 and not permission.startswith("s3:PutObject"):
        return ObjectNotFoundError(f"{where}: no such object")
    if status == 412:
        return PreconditionFailedError(f"{where}: expected nothing, found an object")
    hint = _BAD_CREDENTIALS.get(code) or _OTHER_CODES.get(code) or _hint_for_status(status, permission)
    refused = code in _BAD_CREDENTIALS or (status in (401, 403) and code not in _OTHER_CODES)
    kind = PermissionDeniedError if refused else StoreError
    return kind(f"{where}: {permission} answered {status} {code}", hint=hint)


def _hint_for_status(status: int, permission: str) -> str:
    if status in (401, 403):
        return permission_hint(permission)
    if status == 501:
        return "the server lacks a feature that an archive needs; `archiver doctor` tries each"
    if status >= 500 or status in (408, 429):
        return "the server is overloaded or out of order: run again later"
    if status == 404:
        return "is the endpoint URL that of an S3 server?"
    return ""


def translate_once(error: Exception, where: str, permission: str) -> ArchiverError:
    """Return the error for a create that was tried once, and may be under way still.

    Only what surely says that nothing was or will be written is anything but unknown.
    """
    status = status_of(error)
    refused = 300 <= status < 500 and status not in (408, 409, 429) and code_of(error) != "RequestTimeout"
    if refused or status == 501 or isinstance(error, (*_NOT_CONFIGURED, aws.ParamValidationError)):
        return translate(error, where, permission)
    said = f"{status} {code_of(error)}" if status else f"no answer ({code_of(error)})"
    return WriteOutcomeUnknownError(f"{where}: s3:PutObject, {said}: it may have been written, or may be yet")


def _without_answer(error: Exception, where: str) -> ArchiverError:
    if isinstance(error, _NOT_CONFIGURED):
        return ConfigError(f"{where}: {error}", hint=_CREDENTIALS_HINT)
    if isinstance(error, _NO_CREDENTIALS_NOW):
        # Without its text, which may quote what a credential process printed.
        return StoreError(
            f"{where}: the source of credentials failed ({code_of(error)})", hint=_CREDENTIALS_HINT
        )
    if isinstance(error, aws.ParamValidationError):
        return ConfigError(f"{where}: {error}", hint="look at the bucket's name and the options")
    if isinstance(error, aws.SSLError):
        hint = "is it http and not https? or a certificate of your own: name its authority in AWS_CA_BUNDLE"
    else:
        hint = "is the endpoint URL right, and can this machine reach it?"
    return StoreError(f"{where}: no answer ({code_of(error)})", hint=hint)
