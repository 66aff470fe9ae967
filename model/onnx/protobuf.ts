// Writes protocol buffers, as far as ONNX needs them: a message is a list of tagged fields, in the order in which they are added.
// Repeated numbers are not packed (onnx.proto is proto2). The package pbf is not used: the format does not change, and pbf is four
// times the size of this file and copies the weights once for each enclosing message.

const text = new TextEncoder();

/** A message under construction; every method adds one field and returns the message. */
export class Message {
  readonly #pieces: Uint8Array[] = [];

  /** A whole number of at least 0, as a varint. */
  integer(field: number, value: number): this {
    this.#pieces.push(varint(8 * field + 0), varint(value));
    return this;
  }

  /** A 32-bit floating-point number. */
  float(field: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    this.#pieces.push(varint(8 * field + 5), bytes);
    return this;
  }

  /** A field that begins with its length: bytes, a text (as UTF-8), or a message. Bytes are not copied until `encode`. */
  value(field: number, value: Uint8Array | string | Message): this {
    const pieces = value instanceof Message ? value.#pieces : [typeof value === 'string' ? text.encode(value) : value];
    this.#pieces.push(varint(8 * field + 2), varint(lengthOf(pieces)), ...pieces);
    return this;
  }

  /** The message as bytes. */
  encode(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(lengthOf(this.#pieces));
    let at = 0;
    for (const piece of this.#pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }
}

const lengthOf = (pieces: readonly Uint8Array[]): number => pieces.reduce((sum, piece) => sum + piece.length, 0);

/** Seven bits a byte, the lowest first; the top bit says that more follow. */
function varint(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`protobuf: varints here are whole numbers of at least 0 — got ${value}.`);
  }
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  bytes.push(rest);
  return Uint8Array.from(bytes);
}
