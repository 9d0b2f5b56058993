/** Files and folders that are exchanged between the look and the opening: nothing outside the roots is read. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { openChain } from '../../src/images/chain.ts';
import { ImageError } from '../../src/images/errors.ts';
import { qemuImg, withTempDir } from '../support/qemu.ts';

const sound = { open: fs.promises.open, lstat: fs.promises.lstat, realpath: fs.promises.realpath };
afterEach(() => {
  Object.assign(fs.promises, sound);
  syncBuiltinESMExports();
});

/** Lets `swap` happen once, right before the first call of `name`. */
function before(name: keyof typeof sound, swap: () => void): { hasFired: boolean } {
  const fired = { hasFired: false };
  const call = sound[name] as (...args: unknown[]) => Promise<unknown>;
  Object.assign(fs.promises, {
    [name]: (...args: unknown[]) => {
      if (!fired.hasFired) swap();
      fired.hasFired = true;
      return call(...args);
    },
  });
  syncBuiltinESMExports();
  return fired;
}

interface Place {
  readonly folder: string;
  readonly image: string;
  readonly outside: string;
  readonly secret: string;
}

/** An image root with `folder/image.qcow2`, and a sound image of the same name outside. */
async function withPlace(work: (place: Place, root: string) => Promise<void>): Promise<void> {
  await withTempDir(async dir => {
    const root = join(dir, 'root');
    const [folder, outside] = [join(root, 'folder'), join(dir, 'outside')];
    fs.mkdirSync(folder, { recursive: true });
    fs.mkdirSync(outside);
    const place = {
      folder,
      outside,
      image: join(folder, 'image.qcow2'),
      secret: join(outside, 'image.qcow2'),
    };
    for (const path of [place.image, place.secret]) await qemuImg('create', '-q', '-f', 'qcow2', path, '1M');
    await work(place, root);
  });
}

async function codeOf(path: string, root: string): Promise<string> {
  try {
    await (await openChain(path, { imageRoots: [root] })).close();
    return 'opened';
  } catch (error) {
    if (error instanceof ImageError) return error.code;
    throw error;
  }
}

const becomesLink = ({ image, secret }: Place): void => {
  fs.unlinkSync(image);
  fs.symlinkSync(secret, image);
};
const folderBecomesLink = ({ folder, outside }: Place): void => {
  fs.renameSync(folder, `${folder}.old`);
  fs.symlinkSync(outside, folder);
};
const becomesFifo = ({ image }: Place): void => {
  fs.unlinkSync(image);
  execFileSync('mkfifo', [image]);
};
const becomesDevice = ({ image }: Place): void => {
  fs.unlinkSync(image);
  fs.symlinkSync('/dev/zero', image);
};
const becomesAnother = ({ image }: Place): void => {
  fs.copyFileSync(image, `${image}.other`);
  fs.renameSync(`${image}.other`, image);
};

describe('right before the opening', () => {
  test.each([
    ['a link to outside', becomesLink, 'ImageUnreadable'],
    ['a link to a device', becomesDevice, 'ImageUnreadable'],
    ['a file in a folder that is a link to outside', folderBecomesLink, 'ImageVanished'],
    ['a FIFO', becomesFifo, 'ImageVanished'],
    ['another image', becomesAnother, 'ImageVanished'],
  ] as const)('the image becomes %s', async (_what, swap, code) => {
    await withPlace(async (place, root) => {
      const fired = before('open', () => swap(place));
      expect(await codeOf(place.image, root)).toBe(code);
      expect(fired.hasFired).toBe(true);
    });
  });
});

describe('right after the real path was found', () => {
  test.each([
    ['a link to outside', becomesLink, 'ImageNotRegular'],
    ['a link to a device', becomesDevice, 'ImageNotRegular'],
    ['a file in a folder that is a link to outside', folderBecomesLink, 'ImageVanished'],
    ['a FIFO', becomesFifo, 'ImageNotRegular'],
    // Only one file of this name was ever looked at.
    ['another image', becomesAnother, 'opened'],
  ] as const)('the image becomes %s', async (_what, swap, code) => {
    await withPlace(async (place, root) => {
      const fired = before('lstat', () => swap(place));
      expect(await codeOf(place.image, root)).toBe(code);
      expect(fired.hasFired).toBe(true);
    });
  });
});

describe('between every two looks', () => {
  test('the folder is a link while the file is looked at and opened, and the folder again for the last look', async () => {
    await withPlace(async (place, root) => {
      const swapped = before('lstat', () => folderBecomesLink(place));
      let restored = false;
      const restore = (): void => {
        if (!swapped.hasFired || restored) return;
        fs.unlinkSync(place.folder);
        fs.renameSync(`${place.folder}.old`, place.folder);
        restored = true;
      };
      const open = sound.open as (...args: unknown[]) => Promise<unknown>;
      Object.assign(fs.promises, {
        open: async (...args: unknown[]) => {
          const handle = await open(...args);
          restore();
          return handle;
        },
      });
      syncBuiltinESMExports();
      expect(await codeOf(place.image, root)).toBe('ImageVanished');
      expect(restored).toBe(true);
    });
  });

  test('by a process that exchanges folder and link all the time', async () => {
    await withPlace(async (place, root) => {
      await qemuImg('create', '-q', '-f', 'qcow2', place.secret, '2M');
      const script = `
        const fs = require('node:fs');
        const [folder, outside] = process.argv.slice(1);
        for (let turn = 0; ; turn += 1) {
          fs.renameSync(folder, folder + '.old');
          fs.symlinkSync(outside, folder);
          fs.unlinkSync(folder);
          fs.renameSync(folder + '.old', folder);
          if (turn === 0) process.stdout.write('swaps');
        }`;
      const swapper = spawn(process.execPath, ['-e', script, place.folder, place.outside], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      try {
        await once(swapper.stdout, 'data');
        const outcomes = new Map<string, number>();
        for (let count = 0; count < 3_000; count += 1) {
          const outcome = await sizeOrCode(place.image, root);
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        }
        expect(outcomes.has(String(2 * 2 ** 20))).toBe(false);
        expect(outcomes.size).toBeGreaterThan(1);
      } finally {
        swapper.kill('SIGKILL');
        await once(swapper, 'close');
      }
    });
  }, 60_000);
});

/** What the guest of the opened image would see, in bytes. */
async function sizeOrCode(path: string, root: string): Promise<string> {
  try {
    const chain = await openChain(path, { imageRoots: [root] });
    await chain.close();
    return String(chain.virtualSizeBytes);
  } catch (error) {
    if (error instanceof ImageError) return error.code;
    throw error;
  }
}
