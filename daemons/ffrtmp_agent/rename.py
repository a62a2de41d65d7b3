"""renameat2(2), which Python does not offer: a rename that replaces nothing, and one that exchanges two names.

Some file systems (NFS, some FUSE) know only the plain rename and say EINVAL to the flags. There a file is put at a free
name by link(2), which never replaces either. A folder cannot be linked, but a plain rename of one never replaces
anything but an empty folder. An exchange becomes a plain rename, which replaces a file at once.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

NOREPLACE, EXCHANGE = 1, 2


def rename(source_folder: int, source: str, target_folder: int, target: str, flag: int) -> None:
    """Rename between two open folders, with NOREPLACE or EXCHANGE; raises OSError as rename(2) does."""
    try:
        _renameat2(source_folder, source, target_folder, target, flag)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        rename_without_flags(source_folder, source, target_folder, target, flag)


def rename_without_flags(source_folder: int, source: str, target_folder: int, target: str, flag: int) -> None:
    """The same where the file system knows no flags; raises OSError."""
    found = os.stat(source, dir_fd=source_folder, follow_symlinks=False)
    folders = {"src_dir_fd": source_folder, "dst_dir_fd": target_folder}
    if flag == NOREPLACE and not stat.S_ISDIR(found.st_mode):
        os.link(source, target, follow_symlinks=False, **folders)
        os.unlink(source, dir_fd=source_folder)
        return
    if flag == NOREPLACE and _is_there(target_folder, target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target, **folders)  # noqa: PTH104 (by descriptor)


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _renameat2(source_folder: int, source: str, target_folder: int, target: str, flag: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.renameat2(
        ctypes.c_int(source_folder),
        os.fsencode(source),
        ctypes.c_int(target_folder),
        os.fsencode(target),
        ctypes.c_uint(flag),
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)
