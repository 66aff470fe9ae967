// Event files that TensorBoard reads: TFRecords (length and data, each with a masked CRC-32C) of Event messages, encoded by
// hand. Steps count finished iterations, and tags are SSL4MIS's, so that runs of both can be laid over each other.
import { appendFileSync, readdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { orSay } from '../files/atomic-file.js';
import { encodePng, type Picture } from '../pictures/png.js';
import type { LogRecord } from '../run/log.js';

/** An event file that is open for writing. What was added is in the file when the call returns. */
export interface EventFile {
  readonly path: string;
  /** Numbers of one step, by tag. */
  scalars(step: number, values: Readonly<Record<string, number>>): void;
  /** The numbers of a log record. */
  record(record: LogRecord): void;
  /** A picture of one step. */
  image(step: number, tag: string, picture: Picture): void;
}

const prefix = 'events.out.tfevents.';

/**
 * A new event file in a run folder. With `resumedAt`, the number of iterations that the run continues from, TensorBoard is
 * told to forget what earlier files say of later steps.
 */
export function createEventFile(folder: string, resumedAt?: number): EventFile {
  const path = join(folder, freeName(folder));
  orSay(path, () => writeFileSync(path, frame(event(undefined, text(3, 'brain.Event:2'))), { flag: 'wx' }));
  const add = (step: number, ...body: Uint8Array[]) =>
    orSay(path, () => appendFileSync(path, frame(event(step, ...body))));
  if (resumedAt !== undefined) add(resumedAt + 1, message(7, [varint(1, sessionStart)]));
  const scalars: EventFile['scalars'] = (step, values) => {
    const summary = Object.entries(values).map(([tag, value]) => message(1, [text(1, tag), float(2, value)]));
    if (summary.length) add(step, message(5, summary));
  };
  return {
    path,
    scalars,
    record(record) {
      const { step, values } = scalarsOf(record);
      scalars(step, values);
    },
    image(step, tag, picture) {
      const { width, height, data } = picture;
      const colorspace = data.length / (width * height); // 1 grey, 3 RGB
      const size = [varint(1, height), varint(2, width), varint(3, colorspace)];
      const image = message(4, [...size, bytes(4, encodePng(picture))]);
      add(step, message(5, [message(1, [text(1, tag), image])]));
    },
  };
}

/** TensorBoard reads a folder's files in the order of their names: a new name sorts after all others. */
function freeName(folder: string): string {
  const seconds = readdirSync(folder)
    .filter((name) => name.startsWith(prefix))
    .map((name) => Number(name.slice(prefix.length).split('.')[0]));
  const now = Math.floor(Date.now() / 1000);
  const time = Math.max(now, ...seconds.filter(Number.isFinite).map((s) => s + 1));
  return `${prefix}${time}.${hostname().replace(/[^\w.-]/g, '_') || 'host'}`;
}

const tags: Readonly<Record<string, string>> = {
  loss: 'total_loss',
  ce: 'loss_ce',
  dice: 'loss_dice',
  consistency: 'consistency_loss',
  consistencyWeight: 'consistency_weight',
};

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** A log record's numbers by TensorBoard's tags, and the step they belong to. */
export function scalarsOf(record: LogRecord): { step: number; values: Record<string, number> } {
  const values: Record<string, number> = {};
  const scores = record.validation as { mean: ByClass; foreground_mean: ByClass[string] } | undefined;
  if (scores) {
    for (const [k, { Dice, HD95 }] of [...Object.entries(scores.mean), ['mean', scores.foreground_mean] as const]) {
      if (typeof Dice === 'number') values[`info/val_${k}_dice`] = Dice;
      if (typeof HD95 === 'number') values[`info/val_${k}_hd95`] = HD95;
    }
    return { step: record.iteration, values };
  }
  for (const [name, value] of Object.entries((record.gradients ?? {}) as Record<string, unknown>)) {
    if (typeof value === 'number') values[`info/gradient_${snake(name)}`] = value;
  }
  for (const [name, value] of Object.entries(record)) {
    if (name === 'iteration' || typeof value !== 'number' || value === -1) continue; // −1: a share of no pixels
    values[`info/${tags[name] ?? snake(name)}`] = value;
  }
  return { step: record.iteration + 1, values };
}

type ByClass = Record<string, { Dice?: unknown; HD95?: unknown }>;

const sessionStart = 1; // SessionLog.START

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0x82f63b78 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** CRC-32C (Castagnoli), reflected, as in RFC 3720. */
export function crc32c(data: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of data) c = crcTable[(c ^ byte) & 255]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** TFRecord stores checksums rotated and shifted, so that a checksum of data that holds checksums stays good. */
function maskedCrc(data: Uint8Array): number {
  const crc = crc32c(data);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** One TFRecord: u64 length, its checksum, the data, its checksum; little endian. */
function frame(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(16 + data.length);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedCrc(out.subarray(0, 8)), true);
  out.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc(data), true);
  return out;
}

/** Event { double wall_time = 1; int64 step = 2; … } */
function event(step: number | undefined, ...body: Uint8Array[]): Uint8Array {
  const time = new Uint8Array(9);
  time[0] = (1 << 3) | 1;
  new DataView(time.buffer).setFloat64(1, Date.now() / 1000, true);
  return Buffer.concat([time, ...(step === undefined ? [] : [varint(2, step)]), ...body]);
}

// The four kinds of protobuf fields that are needed: a key (number and wire type), then the value.
const key = (field: number, wireType: number): number => (field << 3) | wireType;

function digits(value: number): number[] {
  const out = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...out, rest];
    out.push((rest % 128) + 128);
  }
}

const varint = (field: number, value: number): Uint8Array => Uint8Array.from([key(field, 0), ...digits(value)]);

function float(field: number, value: number): Uint8Array {
  const out = new Uint8Array(5);
  out[0] = key(field, 5);
  new DataView(out.buffer).setFloat32(1, value, true);
  return out;
}

const bytes = (field: number, value: Uint8Array): Uint8Array =>
  Buffer.concat([Uint8Array.from([key(field, 2), ...digits(value.length)]), value]);
const text = (field: number, value: string): Uint8Array => bytes(field, new TextEncoder().encode(value));
const message = (field: number, parts: Uint8Array[]): Uint8Array => bytes(field, Buffer.concat(parts));
