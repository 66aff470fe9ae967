// Reads TensorBoard's event files, written from the definitions of TFRecord and protobuf and not from the writer.
import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';

/** CRC-32C bit by bit, without a table. */
function slowCrc(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

const unmasked = (masked: number): number => {
  const rotated = (masked - 0xa282ead8) >>> 0;
  return ((rotated >>> 17) | (rotated << 15)) >>> 0;
};

export interface Field {
  number: number;
  value: number | Buffer;
}

/** Fields of a protobuf message: varints, doubles and floats as numbers, the rest as bytes. */
function fieldsOf(data: Buffer): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let [value, scale] = [0, 1];
    for (;;) {
      const byte = data[at++]!;
      value += (byte & 127) * scale;
      scale *= 128;
      if (byte < 128) return value;
    }
  };
  while (at < data.length) {
    const key = varint();
    const [number, wire] = [Math.floor(key / 8), key % 8];
    if (wire === 0) fields.push({ number, value: varint() });
    else if (wire === 1) fields.push({ number, value: data.readDoubleLE((at += 8) - 8) });
    else if (wire === 5) fields.push({ number, value: data.readFloatLE((at += 4) - 4) });
    else if (wire === 2) {
      const length = varint();
      fields.push({ number, value: data.subarray(at, (at += length)) });
    } else throw new Error(`wire type ${wire}`);
  }
  assert.is(at, data.length);
  return fields;
}

export const one = (fields: Field[], number: number) => fields.find((field) => field.number === number)?.value;
const nested = (fields: Field[], number: number): Field[][] =>
  fields.filter((field) => field.number === number).map(({ value }) => fieldsOf(value as Buffer));

export interface Event {
  time: number;
  step: number;
  version: string | undefined;
  session: number | undefined;
  values: { tag: string; scalar: number | undefined; image: Field[] | undefined }[];
}

/** All events of a file; every checksum must hold. */
export function readEvents(path: string): Event[] {
  const data = readFileSync(path);
  const events: Event[] = [];
  for (let at = 0; at < data.length; ) {
    const length = Number(data.readBigUInt64LE(at));
    assert.is(unmasked(data.readUInt32LE(at + 8)), slowCrc(data.subarray(at, at + 8)), 'checksum of the length');
    const body = data.subarray(at + 12, at + 12 + length);
    assert.is(unmasked(data.readUInt32LE(at + 12 + length)), slowCrc(body), 'checksum of the data');
    at += 16 + length;
    const fields = fieldsOf(body);
    const session = nested(fields, 7)[0];
    events.push({
      time: one(fields, 1) as number,
      step: (one(fields, 2) as number | undefined) ?? 0,
      version: one(fields, 3)?.toString(),
      session: session && (one(session, 1) as number),
      values: nested(fields, 5).flatMap((summary) =>
        nested(summary, 1).map((value) => ({
          tag: String(one(value, 1)),
          scalar: one(value, 2) as number | undefined,
          image: nested(value, 4)[0],
        })),
      ),
    });
  }
  return events;
}
