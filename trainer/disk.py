"""What the disk, or whoever owns it, refused a job: told as that, and not as a fault of ours."""

from __future__ import annotations

import errno
import os
import re

from trainer.errors import Problem

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO})
# safetensors raises no OSError, but ends its text as Rust does; torch.save keeps none of the disk's words.
_IN_TEXT = re.compile(r"\(os error (\d+)\)")
_TORCH_SAVE = re.compile(r"inline_container\.cc|PytorchStreamWriter failed")


def disk_problem(error: BaseException) -> Problem | None:
    """The sentence for an error that the disk caused, in writing a file by any of the libraries; None for any other."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := _IN_TEXT.search(str(error))):
        number = int(found[1])
    if number is None and isinstance(error, RuntimeError) and _TORCH_SAVE.search(str(error)):
        number = errno.ENOSPC
    where = str(getattr(error, "filename", None) or "")
    if number in _FULL:
        do = "Free some space; the same command resumes where it was."
        return Problem("the disk is full, or a quota is reached", where=where, do=do)
    if number in _CLOSED:
        do = "Have its permissions changed, or look after the disk; the same command resumes where it was."
        return Problem(os.strerror(number).lower(), where=where, do=do)
    return None
