// The one error for data a user gave us: files, folders, splits. Never a programming error.

/** Names the file or folder, what is wrong with it and what to do. */
export class DataError extends Error {
  override name = 'DataError';
}

/** A system call's error in words a user can act on. */
export function whyNot(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return 'there is no such file or folder';
  if (code === 'EACCES' || code === 'EPERM') return 'permission denied';
  if (code === 'EISDIR') return 'it is a folder, not a file';
  if (code === 'ENOTDIR') return 'a part of its path is a file, not a folder';
  if (code === 'ENOSPC') return 'the disk is full';
  if (code === 'EROFS') return 'the file system is read-only';
  return message;
}
