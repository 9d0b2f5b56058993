/** What lies on the demo host's disks, and how it changes from snapshot to snapshot. */
import { createCipheriv, createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { FatFile } from './fat/volume.ts';

const MIB = 1024 * 1024;
const MAX_REPOSITORY_BYTES = 64 * MIB;
const SKIPPED_FOLDERS = new Set(['node_modules', 'dist', 'coverage']);

const RECORD_FILE_BYTES = 4 * MIB;
const RECORD_FILE_COUNT = 24;
const RECENT_FILE_COUNT = 16;
const EDIT_BYTES = 64 * 1024;

/**
 * The system disk's files: the repository as it is now, and a note for each snapshot, so that no two
 * snapshots are the same.
 */
export async function systemDiskFiles(repositoryRoot: string, number: number): Promise<FatFile[]> {
  const files = await collectRepositoryFiles(repositoryRoot);
  const notes = Array.from({ length: number }, (_, index) => `Snapshot ${index + 1} was taken.\n`).join('');
  return [...files, { path: 'SNAPSHOTS.TXT', bytes: Buffer.from(notes) }];
}

/**
 * The data disk's files: 96 MiB of records, half of them incompressible, of which each further snapshot
 * rewrites two pieces of 64 KiB; and a folder of recent ones, where each adds 4 MiB or replaces the oldest.
 */
export function dataDiskFiles(number: number): FatFile[] {
  const records = Array.from({ length: RECORD_FILE_COUNT }, (_, index) =>
    recordFile(`record ${index}`, index),
  );
  for (let edit = 2; edit <= number; edit += 1) {
    const offset = (edit * EDIT_BYTES) % RECORD_FILE_BYTES;
    for (const index of [edit, edit + RECORD_FILE_COUNT / 2]) {
      records[index % RECORD_FILE_COUNT]?.set(randomBytes(`edit ${edit} ${index}`, EDIT_BYTES), offset);
    }
  }
  const files = records.map((bytes, index) => ({ path: `archive/set ${pad(index)}.jsonl`, bytes }));
  for (let added = Math.max(2, number - RECENT_FILE_COUNT + 1); added <= number; added += 1) {
    const path = `recent/slot ${pad(added % RECENT_FILE_COUNT)}.jsonl`;
    files.push({ path, bytes: recordFile(`recent ${added}`, added) });
  }
  return files;
}

async function collectRepositoryFiles(root: string): Promise<FatFile[]> {
  const files: FatFile[] = [];
  let left = MAX_REPOSITORY_BYTES;
  for await (const path of walkFiles(root, '')) {
    const found = await readIfThere(join(root, path));
    if (found === null || found.bytes.length > left) continue;
    left -= found.bytes.length;
    files.push({ path, ...found });
  }
  return files;
}

/** Regular files in order of name; hidden folders and those that are made, not written, are left out. */
async function* walkFiles(root: string, folder: string): AsyncGenerator<string> {
  const entries = await readdir(join(root, folder), { withFileTypes: true });
  for (const entry of entries.toSorted((left, right) => (left.name < right.name ? -1 : 1))) {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (entry.isFile()) yield path;
    const isSkipped = SKIPPED_FOLDERS.has(entry.name) || entry.name.startsWith('.');
    if (entry.isDirectory() && !isSkipped) yield* walkFiles(root, path);
  }
}

/** @returns null for a file that went away meanwhile, or is too large to be looked at */
async function readIfThere(path: string): Promise<{ bytes: Buffer; modifiedAt: Date } | null> {
  try {
    const { mtime, size } = await stat(path);
    return size > MAX_REPOSITORY_BYTES ? null : { bytes: await readFile(path), modifiedAt: mtime };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Every other file is random bytes, the rest are lines of text that compress well. */
function recordFile(seed: string, index: number): Buffer {
  return index % 2 === 0 ? randomBytes(seed, RECORD_FILE_BYTES) : textRecords(seed, RECORD_FILE_BYTES);
}

function textRecords(seed: string, sizeBytes: number): Buffer {
  const numbers = randomBytes(seed, sizeBytes / 16);
  const lines: string[] = [];
  let length = 0;
  for (let at = 0; length < sizeBytes; at = (at + 4) % numbers.length) {
    const amount = (numbers.readUInt32LE(at) % 1_000_000) / 100;
    const line = `{"record":${lines.length},"set":"${seed}","amount":${amount.toFixed(2)},"state":"booked"}\n`;
    lines.push(line);
    length += line.length;
  }
  return Buffer.from(lines.join('').slice(0, sizeBytes), 'latin1');
}

/** The same seed gives the same bytes: the key stream of AES in counter mode. */
function randomBytes(seed: string, sizeBytes: number): Buffer {
  const key = createHash('sha256').update(seed).digest().subarray(0, 16);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes));
}

const pad = (index: number): string => String(index).padStart(2, '0');
