// The one error for a user's data: files, folders, splits. It is never a programming error. Here is also how a message quotes foreign text:
// cut, and on one line.

/** Names the file or folder, what is wrong with it and what to do. */
export class DataError extends Error {
  override name = 'DataError';
  constructor(message: string, options?: ErrorOptions) {
    super(readable(message), options);
  }
}

/** Throws: what is wrong, and what to do. */
export type Refuse = (what: string) => never;

/** A value as a message shows it: strings as they are, all else as JSON; control characters as spaces, the middle of a long one left out. */
export function cut(value: unknown, most = 80): string {
  const text = (typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))).replace(/\p{Cc}+/gu, ' ');
  const characters = Array.from(text.length > 4 * most ? text.slice(0, 2 * most) + text.slice(-2 * most) : text);
  if (characters.length <= most) return text;
  const [head, tail] = [Math.ceil((2 * (most - 1)) / 3), Math.floor((most - 1) / 3)];
  return `${characters.slice(0, head).join('')}…${characters.slice(-tail).join('')} (${text.length} characters)`;
}

/** A list as a message shows it: its first `most` items, each cut, and how many there are. */
export function some(items: readonly unknown[], most = 5): string {
  const shown = items.slice(0, most).map((item) => cut(item));
  return items.length > most ? `${shown.join(', ')}, … (${items.length} in all)` : shown.join(', ');
}

/** A message whose words fit a screen: what has more than 400 characters without a space is cut. */
export const readable = (message: string): string => message.replace(/\S{401,}/g, (word) => cut(word, 200));

/** A system call's error in words a user can act on. */
export function whyNot(error: unknown): string {
  const { code, message, cause } = error as NodeJS.ErrnoException;
  if ((cause as NodeJS.ErrnoException | undefined)?.syscall) return whyNot(cause); // the message around it has said the rest
  if (code === 'ENOENT') return 'there is no such file or folder';
  if (code === 'EACCES' || code === 'EPERM') return 'permission denied';
  if (code === 'EISDIR') return 'it is a folder, not a file';
  if (code === 'ENOTDIR') return 'a part of its path is a file, not a folder';
  if (code === 'ENOSPC') return 'the disk is full';
  if (code === 'EROFS') return 'the file system is read-only';
  return message;
}
