/** Cases on a real file system, where every file that is opened is looked at: it must lie under the image root. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { must } from '../campaign.ts';
import type { SoundChain } from './corpus.ts';

const MEMORY_FOLDER = '/dev/shm';
/** A file that a case made huge is written as long as this at most; the rest is a hole. */
const MAX_FILE_BYTES = 2 ** 44;

export class DiskCases {
  readonly #folder: string;
  readonly #root: string;
  readonly #opened: string[] = [];
  readonly #restore: () => void;

  private constructor(folder: string) {
    this.#folder = folder;
    this.#root = join(folder, 'root');
    this.#restore = watchOpens(this.#opened);
  }

  static async open(): Promise<DiskCases> {
    const parent = fs.existsSync(MEMORY_FOLDER) ? MEMORY_FOLDER : tmpdir();
    const cases = new DiskCases(fs.mkdtempSync(join(parent, 'offsite-hostile-')));
    cases.#furnish();
    return cases;
  }

  /** Traps that a backing name may lead to. */
  #furnish(): void {
    const [root, outside] = [this.#root, join(this.#folder, 'outside')];
    for (const folder of [root, outside, join(root, 'folder')]) fs.mkdirSync(folder);
    for (const name of ['secret', 'base', 'passwd']) fs.writeFileSync(join(outside, name), 'x'.repeat(4096));
    fs.writeFileSync(join(this.#folder, 'rootx'), 'beside the root');
    fs.symlinkSync(join(outside, 'secret'), join(root, 'link-out'));
    fs.symlinkSync(outside, join(root, 'link-folder'));
    fs.symlinkSync('link-loop', join(root, 'link-loop'));
    fs.symlinkSync('/dev/zero', join(root, 'link-device'));
    execFileSync('mkfifo', [join(root, 'fifo')]);
  }

  async run(
    chain: SoundChain,
    look: (place: { root: string; topPath: string }) => Promise<string>,
  ): Promise<string> {
    for (const { file } of chain.files) {
      const path = join(this.#root, basename(file.path));
      fs.writeFileSync(path, file.bytes.subarray(0, Math.min(file.sizeBytes, file.bytes.length)));
      fs.truncateSync(path, Math.min(file.sizeBytes, MAX_FILE_BYTES));
    }
    this.#opened.length = 0;
    const outcome = await look({ root: this.#root, topPath: join(this.#root, 'top') });
    // Nothing of it is left for the next case, which may be run alone.
    for (const { file } of chain.files) fs.unlinkSync(join(this.#root, basename(file.path)));
    for (const place of this.#opened) {
      must(place.startsWith(`${this.#root}/`), () => `${place} was opened (${outcome})`);
    }
    return outcome;
  }

  async close(): Promise<void> {
    this.#restore();
    fs.rmSync(this.#folder, { recursive: true });
  }
}

/** Notes the real place of each file that the promise API opens. @returns what ends it */
function watchOpens(opened: string[]): () => void {
  const { open } = fs.promises;
  fs.promises.open = async (...args: Parameters<typeof open>) => {
    const handle = await open(...args);
    opened.push(fs.readlinkSync(`/proc/self/fd/${handle.fd}`));
    return handle;
  };
  syncBuiltinESMExports();
  return () => {
    fs.promises.open = open;
    syncBuiltinESMExports();
  };
}
