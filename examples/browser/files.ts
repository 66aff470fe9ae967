// Bytes in and out of the page, all in memory: the trainer's own NIfTI code unpacks gzip with Node, so here the browser's
// streams do that.
import { encodeNifti } from 'wgrad/data';
import { inFileOrder, type Study } from './study.js';

const mostBytes = 2 ** 30;

/** The bytes of a file, unpacked where they are gzip. Throws an Error in plain words. */
export async function bytesOf(file: File): Promise<Uint8Array> {
  const packed = new Uint8Array(await file.arrayBuffer());
  if (packed[0] !== 0x1f || packed[1] !== 0x8b) return packed;
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip')).getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      length += part.value.length;
      if (length > mostBytes) break;
    }
  } catch {
    throw new Error(`${file.name}: the gzip data are damaged or end early. Copy or download the file again.`);
  }
  if (length > mostBytes) {
    void reader.cancel();
    throw new Error(`${file.name} unpacks to more than 1 GiB, too much for a page. Crop it or split it.`);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Labels as a NIfTI file, gzip, on the study's own grid and affine. */
export async function labelFile(study: Study, voxels: Uint8Array): Promise<Blob> {
  const data = inFileOrder(study, voxels);
  const { volume, width, height, depth, spacing } = study;
  const grid = volume ? { like: volume } : { shape: [width, height, depth], spacing };
  const bytes = encodeNifti({ data, dtype: 'uint8', ...grid }, `labels of ${study.name}`);
  const packed = new Blob([bytes as BlobPart]).stream().pipeThrough(new CompressionStream('gzip'));
  return new Response(packed).blob();
}

/** Has the browser save a file. */
export function download(name: string, content: Blob): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
