// Reads protocol buffers, as far as ONNX needs them: a message is a list of tagged fields (protobuf.dev/programming-guides/encoding).

/** A field's number, and its value: a varint, or the bytes of anything else. */
type Field = readonly [field: number, value: bigint | Uint8Array];

/** The fields of a message, in their order. */
export function fieldsOf(bytes: Uint8Array): Field[] {
  const fields: Field[] = [];
  const cursor = { at: 0 };
  while (cursor.at < bytes.length) {
    const tag = Number(varint(bytes, cursor));
    const field = Math.floor(tag / 8);
    if (tag % 8 === 0) {
      fields.push([field, varint(bytes, cursor)]);
      continue;
    }
    const length = tag % 8 === 2 ? Number(varint(bytes, cursor)) : { 1: 8, 5: 4 }[tag % 8];
    if (length === undefined || cursor.at + length > bytes.length) {
      throw new RangeError(`protobuf: wire type ${tag % 8} with ${length} bytes at ${cursor.at} of ${bytes.length}.`);
    }
    fields.push([field, bytes.subarray(cursor.at, (cursor.at += length))]);
  }
  return fields;
}

/** Seven bits a byte, the lowest first; the top bit says that more follow. */
function varint(bytes: Uint8Array, cursor: { at: number }): bigint {
  let value = 0n;
  for (let shift = 0n; ; shift += 7n) {
    const byte = bytes[cursor.at++];
    if (byte === undefined) throw new RangeError('protobuf: the bytes end within a number.');
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) return value;
  }
}

/** The messages of a repeated field, or those of one. */
export const messages = (fields: readonly Field[], field: number): Uint8Array[] =>
  fields.flatMap(([at, value]) => (at === field && typeof value !== 'bigint' ? [value] : []));

/** Texts of a field. */
export const texts = (fields: readonly Field[], field: number): string[] =>
  messages(fields, field).map((bytes) => new TextDecoder().decode(bytes));

/** Whole numbers of a field, packed or not. */
export const integers = (fields: readonly Field[], field: number): number[] =>
  fields.flatMap(([at, value]) => {
    if (at !== field) return [];
    if (typeof value === 'bigint') return [Number(BigInt.asIntN(64, value))];
    const cursor = { at: 0 };
    const numbers: number[] = [];
    while (cursor.at < value.length) numbers.push(Number(BigInt.asIntN(64, varint(value, cursor))));
    return numbers;
  });

/** 32-bit floating-point numbers of a field, packed or not. */
export const floats = (fields: readonly Field[], field: number): number[] =>
  messages(fields, field).flatMap((bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  });
