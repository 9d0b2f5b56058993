/** QEMU's own word on images, where its tools are installed. */
import { execFile } from 'node:child_process';
import { OffsiteError } from '../domain/errors.ts';

const MAX_OUTPUT_BYTES = 1024 * 1024;

/** @returns what `qemu-img compare` says of the guest's view of two images @throws {QemuImgError} when it cannot say */
export async function qemuCompare(
  left: string,
  right: string,
): Promise<'identical' | 'different' | 'not installed'> {
  const ended = await qemuImg(['compare', '-U', '-f', 'qcow2', '-F', 'qcow2', left, right]);
  if (ended === null) return 'not installed';
  if (ended.exitCode === 0) return 'identical';
  if (ended.exitCode === 1) return 'different';
  throw new QemuImgError(`qemu-img cannot compare ${left} with ${right}: ${ended.lastLine}`);
}

/** @returns `faulty` for any error or leak that `qemu-img check` finds @throws {QemuImgError} when it cannot check */
export async function qemuCheck(path: string): Promise<'clean' | 'faulty' | 'not installed'> {
  const ended = await qemuImg(['check', '-U', '-f', 'qcow2', path]);
  if (ended === null) return 'not installed';
  if (ended.exitCode === 0) return 'clean';
  if (ended.exitCode === 2 || ended.exitCode === 3) return 'faulty';
  throw new QemuImgError(`qemu-img cannot check ${path}: ${ended.lastLine}`);
}

/** qemu-img is there but could not do what it was asked. */
class QemuImgError extends OffsiteError {
  constructor(message: string) {
    super('QemuImgFailed', message, 'Run the same command by hand to see more.');
  }
}

/** @returns null where qemu-img is not on PATH */
function qemuImg(args: readonly string[]): Promise<{ exitCode: number; lastLine: string } | null> {
  return new Promise((resolve, reject) => {
    execFile('qemu-img', args, { maxBuffer: MAX_OUTPUT_BYTES }, (error, _stdout, stderr) => {
      const lastLine = stderr.trim().split('\n').at(-1) ?? '';
      if (error === null) resolve({ exitCode: 0, lastLine });
      else if (error.code === 'ENOENT') resolve(null);
      else if (typeof error.code === 'number') resolve({ exitCode: error.code, lastLine });
      else reject(error);
    });
  });
}
