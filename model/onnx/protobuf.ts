// Protocol buffers, the writing half and of that what ONNX needs: a message is a list of tagged fields, in the order in which they
// are added. Repeated numbers are not packed (onnx.proto is proto2). Not pbf: the format does not change, pbf moves the weights once
// for each message around them, and is four times the size.

const text = new TextEncoder();

/** A message under construction; every method adds one field and returns the message. */
export class Message {
  readonly #parts: Uint8Array[] = [];

  /** A whole number of at least 0, as a varint. */
  integer(field: number, value: number): this {
    this.#parts.push(varint(8 * field + 0), varint(value));
    return this;
  }

  /** A 32-bit floating-point number. */
  float(field: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    this.#parts.push(varint(8 * field + 5), bytes);
    return this;
  }

  /** Bytes, a text (as UTF-8), or a message: whatever has a length before it. Bytes are not copied until `encode`. */
  value(field: number, value: Uint8Array | string | Message): this {
    const parts = value instanceof Message ? value.#parts : [typeof value === 'string' ? text.encode(value) : value];
    this.#parts.push(varint(8 * field + 2), varint(lengthOf(parts)), ...parts);
    return this;
  }

  /** The message as bytes. */
  encode(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(lengthOf(this.#parts));
    let at = 0;
    for (const part of this.#parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }
}

const lengthOf = (parts: readonly Uint8Array[]): number => parts.reduce((sum, part) => sum + part.length, 0);

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
