/**
 * Reads the name of a backing file: relative to the overlay's folder, absolute, or QEMU's own `json:` form.
 * Whatever reaches further than a file (nbd:, ssh:, blkdebug: and so on) is refused, and no format is ever probed.
 * @see QEMU docs/interop/qcow2, "Backing file name"; qapi/block-core.json, BlockdevOptions
 */
import { dirname, isAbsolute } from 'node:path';
import { BackingFormatMissingError, ImageUnsupportedError } from './errors.ts';

export interface BackingSpec {
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  /** What a `json:` name says of the layer beneath: null for none; undefined leaves it to the file's header. */
  readonly backing: BackingSpec | null | undefined;
}

const REBASE_HINT = 'Give the overlay a plain backing name: qemu-img rebase -u -b FILE -F qcow2 OVERLAY.';
const MAX_JSON_DEPTH = 64;
/** Options that change neither the content nor the place of the data. */
const HARMLESS = new Set(['node-name', 'read-only', 'auto-read-only', 'discard', 'detect-zeroes', 'cache']);

/**
 * @param overlayPath the overlay's path as the chain names it; QEMU takes relative names from its folder
 * @throws {BackingFormatMissingError} when no format is written down
 * @throws {ImageUnsupportedError} for any other protocol, format or option, by its name
 */
export function parseBackingName(overlayPath: string, name: string, format: string | null): BackingSpec {
  if (name.startsWith('json:')) return parseJsonName(overlayPath, name, format);
  const plain = name.startsWith('file:/') ? name.slice('file:'.length) : name;
  const protocol = /^([^/:]*):/.exec(plain)?.[1];
  if (protocol !== undefined) {
    const fault = `its backing file ${JSON.stringify(name)} is reached by ${JSON.stringify(protocol)}, not as a file`;
    throw new ImageUnsupportedError(overlayPath, fault, REBASE_HINT);
  }
  // Not joined: that would take `..` textually, and the folder before it may be a link.
  const path = isAbsolute(plain) ? plain : `${dirname(overlayPath)}/${plain}`;
  return { path, format: knownFormat(overlayPath, name, format), backing: undefined };
}

function knownFormat(overlayPath: string, name: string, format: string | null): 'qcow2' | 'raw' {
  if (format === null || format === '') throw new BackingFormatMissingError(overlayPath, name);
  if (format === 'qcow2' || format === 'raw') return format;
  const fault = `its backing file has the format ${JSON.stringify(format)}; only qcow2 and raw are read`;
  throw new ImageUnsupportedError(overlayPath, fault, REBASE_HINT);
}

function parseJsonName(overlayPath: string, name: string, format: string | null): BackingSpec {
  let value: unknown;
  try {
    value = JSON.parse(name.slice('json:'.length));
  } catch {
    throw new ImageUnsupportedError(overlayPath, 'its json: backing name is not JSON', REBASE_HINT);
  }
  const spec = readNode({ overlayPath, name }, value, format, 0);
  if (format !== null && format !== '' && format !== spec.format) {
    const fault = `its json: backing name says ${spec.format}, its backing format ${JSON.stringify(format)}`;
    throw new ImageUnsupportedError(overlayPath, fault, REBASE_HINT);
  }
  return spec;
}

interface JsonName {
  readonly overlayPath: string;
  readonly name: string;
}

function readNode(from: JsonName, value: unknown, format: string | null, depth: number): BackingSpec {
  const node = readObject(from, value, depth);
  const driver = node.get('driver') ?? format;
  if (driver === null) throw new BackingFormatMissingError(from.overlayPath, from.name);
  if (driver !== 'qcow2' && driver !== 'raw') throw refused(from, `the driver ${JSON.stringify(driver)}`);
  const backing = node.get('backing');
  if (driver === 'raw' && backing !== undefined && backing !== null) {
    throw refused(from, 'a raw image with a backing file');
  }
  for (const key of node.keys()) {
    if (!['driver', 'file', 'backing'].includes(key) && !HARMLESS.has(key)) {
      throw refused(from, `the option ${JSON.stringify(key)}`);
    }
  }
  return {
    path: readFileNode(from, node.get('file'), depth + 1),
    format: driver,
    backing: backing === undefined || backing === null ? backing : readNode(from, backing, null, depth + 1),
  };
}

function readFileNode(from: JsonName, value: unknown, depth: number): string {
  const node = readObject(from, value, depth);
  const driver = node.get('driver') ?? 'file';
  if (driver !== 'file') throw refused(from, `the driver ${JSON.stringify(driver)}`);
  for (const key of node.keys()) {
    if (!['driver', 'filename', 'locking', 'aio'].includes(key) && !HARMLESS.has(key)) {
      throw refused(from, `the option ${JSON.stringify(key)}`);
    }
  }
  const filename = node.get('filename');
  if (typeof filename !== 'string' || filename.includes('\0')) throw refused(from, 'a file without a name');
  if (!isAbsolute(filename)) {
    throw refused(
      from,
      `the relative file ${JSON.stringify(filename)}, which depends on QEMU's working directory`,
    );
  }
  return filename;
}

/** The options of one node; QEMU also takes `file.filename` for `file: { filename }`. */
function readObject(from: JsonName, value: unknown, depth: number): Map<string, unknown> {
  if (depth > MAX_JSON_DEPTH) throw refused(from, 'too many levels');
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refused(from, `${JSON.stringify(value)?.slice(0, 40) ?? 'nothing'} where a node must be described`);
  }
  const node = new Map<string, unknown>();
  for (const [key, option] of Object.entries(value)) {
    const dot = key.indexOf('.');
    const [first, rest] = dot < 0 ? [key, null] : [key.slice(0, dot), key.slice(dot + 1)];
    if (rest === null) {
      if (node.has(first)) throw refused(from, `the option ${JSON.stringify(first)} twice`);
      node.set(first, option);
      continue;
    }
    const nested = node.get(first) ?? Object.create(null);
    if (typeof nested !== 'object' || nested === null || rest in nested) {
      throw refused(from, `the option ${JSON.stringify(first)} twice`);
    }
    node.set(first, { ...nested, [rest]: option });
  }
  return node;
}

function refused({ overlayPath }: JsonName, what: string): ImageUnsupportedError {
  return new ImageUnsupportedError(
    overlayPath,
    `its json: backing name has ${what}, which is not read`,
    REBASE_HINT,
  );
}
