// Rows of ONNX's table: what is no matter of tensors, or of another field.
import type { Rows } from './node.js';

const control = "control flow is JavaScript's";
const sequences = 'a JavaScript array of tensors';
const optional = 'a JavaScript variable that may be undefined';
const strings = 'tensors of texts';
const signals = 'no signal processing';

export const absent: Rows = {
  BlackmanWindow: signals,
  ConcatFromSequence: sequences,
  Det: 'no linear algebra',
  DFT: signals,
  Einsum: 'no equations: `permute`, `matmul` and `sum` say the same',
  HammingWindow: signals,
  HannWindow: signals,
  If: control,
  Loop: control,
  MelWeightMatrix: signals,
  Optional: optional,
  OptionalGetElement: optional,
  OptionalHasElement: optional,
  Scan: control,
  SequenceAt: sequences,
  SequenceConstruct: sequences,
  SequenceEmpty: sequences,
  SequenceErase: sequences,
  SequenceInsert: sequences,
  SequenceLength: sequences,
  SequenceMap: sequences,
  SplitToSequence: sequences,
  STFT: signals,
  StringNormalizer: strings,
  TfIdfVectorizer: strings,
};
