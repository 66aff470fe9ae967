// The format of a file that is not NIfTI, recognised by its first bytes, and how to convert it: the commonest first obstacle.

interface Format {
  /** What it is, with its article. */
  readonly name: string;
  /** What to do with it. */
  readonly advice: string;
  readonly fits: (bytes: Uint8Array, text: string) => boolean;
}

const at =
  (offset: number, ...expected: number[]) =>
  (bytes: Uint8Array) =>
    expected.every((byte, i) => bytes[offset + i] === byte);
const word = (offset: number, expected: string) =>
  at(offset, ...Array.from(expected, (letter) => letter.charCodeAt(0)));
const begins = (pattern: RegExp) => (_: Uint8Array, text: string) => pattern.test(text);
const unpack = (command: string) => `Unpack it first: ${command}.`;
const withItk =
  'Convert it, for instance with 3D Slicer, or in Python: SimpleITK.WriteImage(SimpleITK.ReadImage(IN), "OUT.nii.gz").';
const withFreeSurfer =
  'Convert it with FreeSurfer: mri_convert IN OUT.nii.gz; or in Python: nibabel.load, then Nifti1Image.';
const again = 'Download the file itself.';

/** By content; the first that fits counts. */
const formats: readonly Format[] = [
  { name: 'a DICOM file', advice: 'Convert its series: dcm2niix -z y -o OUT FOLDER.', fits: word(128, 'DICM') },
  {
    name: 'a DICOM file without its preamble',
    advice: 'Convert its series: dcm2niix -z y -o OUT FOLDER.',
    // Group 2 or 8, a small element number, and a value representation of two capitals or a short implicit length.
    fits: (bytes) =>
      [2, 8].includes(bytes[0]!) && bytes[1] === 0 && bytes[3] === 0 && [0, 1, 5, 8, 0x16].includes(bytes[2]!),
  },
  { name: 'an NRRD file', advice: withItk, fits: word(0, 'NRRD') },
  { name: 'a MetaImage file (.mha, .mhd)', advice: withItk, fits: begins(/^\s*(ObjectType|NDims|Comment)\s*=/) },
  {
    name: 'a FreeSurfer volume (.mgh, .mgz)',
    advice: withFreeSurfer,
    // Version 1, then sizes, big-endian; a right-to-use flag after the type.
    fits: (bytes) =>
      at(0, 0, 0, 0, 1)(bytes) && bytes.length >= 284 && bytes[4] === 0 && bytes[8] === 0 && bytes[12] === 0,
  },
  {
    name: 'a Git LFS pointer, not the file',
    advice: 'Fetch it: git lfs pull.',
    fits: begins(/^version https:\/\/git-lfs/),
  },
  {
    name: 'a git-annex pointer, not the file',
    advice: 'Fetch it: git annex get FILE, or datalad get FILE.',
    fits: begins(/^(\.\.\/)*(\.git)?\/annex\/objects\//),
  },
  {
    name: 'an HTML page, not the file: the download was answered with a page',
    advice: again,
    fits: begins(/^\s*<(!doctype\s+html|html|head|body)/i),
  },
  { name: 'an XML document, not the file', advice: again, fits: begins(/^\s*<\?xml/i) },
  { name: 'a JSON text, not a volume', advice: 'Give the volume beside it.', fits: begins(/^\s*[{[]\s*["{[\]}]/) },
  { name: 'an empty ZIP archive', advice: 'Copy or download it again.', fits: at(0, 0x50, 0x4b, 5, 6) },
  { name: 'a ZIP archive', advice: unpack('unzip FILE'), fits: at(0, 0x50, 0x4b, 3, 4) },
  { name: 'a Zstandard file (.zst)', advice: unpack('zstd -d FILE'), fits: at(0, 0x28, 0xb5, 0x2f, 0xfd) },
  { name: 'an XZ file', advice: unpack('xz -d FILE'), fits: at(0, 0xfd, 0x37, 0x7a, 0x58, 0x5a, 0) },
  { name: 'a bzip2 file', advice: unpack('bunzip2 FILE'), fits: begins(/^BZh[1-9]/) },
  { name: 'an LZ4 file', advice: unpack('lz4 -d FILE'), fits: at(0, 4, 0x22, 0x4d, 0x18) },
  { name: 'a 7z archive', advice: unpack('7z x FILE'), fits: at(0, 0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c) },
  { name: 'a RAR archive', advice: unpack('unrar x FILE'), fits: word(0, 'Rar!') },
  { name: 'packed by gzip twice', advice: unpack('gunzip FILE'), fits: at(0, 0x1f, 0x8b) },
  { name: 'a tar archive', advice: unpack('tar xf FILE'), fits: word(257, 'ustar') },
  {
    name: 'an HDF5 file',
    advice: "Name it .h5; its datasets must be 'image' and 'label' (a MINC 2 file: mnc2nii IN OUT.nii).",
    fits: at(0, 0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a),
  },
  { name: 'a NetCDF or MINC file', advice: 'Convert it: mnc2nii IN OUT.nii.', fits: word(0, 'CDF') },
  {
    name: 'a NumPy array',
    advice: 'Convert it in Python: nibabel.save(nibabel.Nifti1Image(array, affine), "OUT.nii.gz").',
    fits: at(0, 0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59),
  },
  { name: 'a MATLAB file', advice: 'Write a NIfTI file with MATLAB: niftiwrite.', fits: word(0, 'MATLAB 5.0') },
  { name: 'an MRtrix image (.mif)', advice: 'Convert it: mrconvert IN OUT.nii.gz.', fits: word(0, 'mrtrix image') },
  {
    name: 'an AFNI header',
    advice: 'Convert it: 3dAFNItoNIFTI DATASET.',
    fits: begins(/^\s*type\s*=\s*(string|integer|float)-attribute/),
  },
  {
    name: 'a Philips PAR file',
    advice: 'Convert it: dcm2niix -z y -o OUT FOLDER.',
    fits: begins(/^#.*DATA DESCRIPTION FILE/),
  },
  { name: 'a PNG picture', advice: 'Write the whole volume as one NIfTI file.', fits: at(0, 0x89, 0x50, 0x4e, 0x47) },
  { name: 'a JPEG picture', advice: 'Write the whole volume as one NIfTI file.', fits: at(0, 0xff, 0xd8, 0xff) },
  { name: 'a GIF picture', advice: 'Write the whole volume as one NIfTI file.', fits: word(0, 'GIF8') },
  {
    name: 'a TIFF picture',
    advice: withItk,
    fits: (bytes) => at(0, 0x49, 0x49, 0x2a, 0)(bytes) || at(0, 0x4d, 0x4d, 0, 0x2a)(bytes),
  },
  { name: 'a PDF document', advice: 'Give a volume.', fits: word(0, '%PDF') },
  {
    name: "macOS's companion of another file (its name begins with ._)",
    advice: 'Give the file itself; delete this one.',
    fits: at(0, 0, 5, 0x16, 7),
  },
  {
    name: 'zeros only: a copy that failed',
    advice: 'Copy or download it again.',
    fits: (bytes) => bytes.length >= 348 && bytes.every((byte) => byte === 0),
  },
];

export const isGzip = (bytes: Uint8Array): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b;

/** What bytes without a NIfTI header are, with what to do, as the end of a message; `name` is their file's. */
export function notNifti(bytes: Uint8Array, name: string): string {
  const start = bytes.subarray(0, 1024);
  const text = String.fromCharCode(...start.subarray(0, 300)).replace(/^ï»¿/, '');
  const found = formats.find(({ fits }) => fits(start, text));
  if (found) return `this is not a NIfTI file but ${found.name}. ${found.advice}`;
  if (/\.img(\.gz)?$/i.test(name)) {
    return `this is not a NIfTI file but, by its name, the voxels of a .hdr/.img pair. ${pairAdvice}`;
  }
  return 'this is not a NIfTI file. Expected .nii or .nii.gz of version 1 or 2.';
}

/** What to do with half a pair. */
export const pairAdvice =
  'Convert the pair to a single .nii.gz: fslchfiletype NIFTI_GZ NAME; or in Python: nibabel.save(nibabel.load("NAME.hdr"), "NAME.nii.gz").';

/** Names of files that hold volumes of other formats, by how they end: what a folder without NIfTI holds. */
const ends: readonly [RegExp, string, string][] = [
  [/\.(dcm|ima)$/i, 'DICOM', 'dcm2niix -z y -o OUT FOLDER'],
  [/\.nhdr$|\.nrrd$/i, 'NRRD', 'SimpleITK or 3D Slicer'],
  [/\.mh[ad]$/i, 'MetaImage', 'SimpleITK or 3D Slicer'],
  [/\.mg[hz]$/i, 'FreeSurfer', 'mri_convert IN OUT.nii.gz'],
  [/\.(hdr|img)(\.gz)?$/i, '.hdr/.img pair', 'fslchfiletype NIFTI_GZ NAME, or nibabel'],
  [/\.nii\.(zst|zip|xz|bz2)$/i, 'otherwise packed NIfTI', 'unpack them'],
  [/\.zip$|\.tar(\.gz)?$|\.tgz$|\.7z$|\.rar$/i, 'archive', 'unpack them'],
  [/\.mif(\.gz)?$/i, 'MRtrix', 'mrconvert IN OUT.nii.gz'],
  [/\.np[yz]$/i, 'NumPy', 'nibabel'],
  [/\.(png|jpe?g|tiff?|bmp|gif)$/i, 'picture', 'write each volume as one NIfTI file'],
  [/\.(h5|hdf5)$/i, 'HDF5', 'give them as files, or their data set with --data'],
];

/** "30 DICOM files (dcm2niix …), 2 NRRD files (…)" of names; empty where none is of a known format. */
export function foreignFiles(names: readonly string[]): string {
  return ends
    .flatMap(([end, format, how]) => {
      const count = names.filter((name) => end.test(name)).length;
      return count ? [`${count} ${format} file${count === 1 ? '' : 's'} (${how})`] : [];
    })
    .join(', ');
}
