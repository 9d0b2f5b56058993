/** Runs qemu-img and qemu-io: the oracles of everything that reads or writes images. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** Runs qemu-img. @returns its standard output @throws with its standard error in the message */
export async function qemuImg(...args: string[]): Promise<string> {
  const { stdout } = await run('qemu-img', args, { maxBuffer: MAX_OUTPUT_BYTES });
  return stdout;
}

/** Runs qemu-io commands on one image; a command that fails inside qemu-io throws. */
export async function qemuIo(
  path: string,
  commands: readonly string[],
  options: string[] = [],
): Promise<string> {
  if (commands.length === 0) return '';
  const args = [...options, ...commands.flatMap(command => ['-c', command]), path];
  const { stdout, stderr } = await run('qemu-io', args, { maxBuffer: MAX_OUTPUT_BYTES });
  const failed = /failed|error|invalid|unsupported/i.exec(stdout + stderr);
  if (failed !== null) throw new Error(`qemu-io ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

/** The SHA-256 of the guest content as QEMU reads it, hexadecimal. */
export async function qemuSha256(path: string, format = 'qcow2'): Promise<string> {
  return withTempDir(async dir => {
    const raw = join(dir, 'content.raw');
    await qemuImg('convert', '-f', format, '-O', 'raw', path, raw);
    return fileSha256(raw);
  });
}

export async function fileSha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest('hex');
}

export interface QemuMapEntry {
  readonly start: number;
  readonly length: number;
  /** The layer that answers: 0 is the top; absent layers answer with the bottom's depth. */
  readonly depth: number;
  /** False where nothing in the chain is allocated. */
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset?: number;
}

/** `qemu-img map --output=json`. */
export async function qemuMap(path: string, format = 'qcow2'): Promise<QemuMapEntry[]> {
  return JSON.parse(await qemuImg('map', '-f', format, '--output=json', path)) as QemuMapEntry[];
}

export interface QemuCheck {
  readonly corruptions: number;
  readonly leaks: number;
  readonly checkErrors: number;
}

/** `qemu-img check` of one layer; a sound image has three zeros. */
export async function qemuCheck(path: string): Promise<QemuCheck> {
  let text: string;
  try {
    text = await qemuImg('check', '-f', 'qcow2', '--output=json', path);
  } catch (error) {
    text = (error as { stdout?: string }).stdout ?? '';
    if (!text.trimStart().startsWith('{')) throw error;
  }
  const report = JSON.parse(text) as Record<string, number | undefined>;
  return {
    corruptions: report.corruptions ?? 0,
    leaks: report.leaks ?? 0,
    checkErrors: report['check-errors'] ?? 0,
  };
}

/** True when both images hold the same content (`qemu-img compare`; a longer one must end in zeros). */
export async function qemuIdentical(
  left: string,
  right: string,
  formats = ['qcow2', 'qcow2'],
): Promise<boolean> {
  try {
    await qemuImg('compare', '-f', formats[0] ?? 'qcow2', '-F', formats[1] ?? 'qcow2', left, right);
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === 1) return false;
    throw error;
  }
}

/** Gives `work` a fresh directory and removes it afterwards. */
export async function withTempDir<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'offsite-test-'));
  try {
    return await work(dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
