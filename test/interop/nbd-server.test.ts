/** The NBD server against the clients that people use, and against those that mean harm. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { NbdExport } from '../../src/capture/nbd/ports.ts';
import { NbdServer, type NbdServerOptions } from '../../src/capture/nbd/server.ts';
import { withMemoryDir } from '../unit/images/replica-fixtures.ts';

const run = promisify(execFile);
const SIZE = 32 * 1024 * 1024;
const ZEROS = Buffer.alloc(SIZE);

/** A disk in memory that counts what it is asked. */
class MemoryDisk implements NbdExport {
  readonly name: string;
  readonly sizeBytes = SIZE;
  readonly content = Buffer.alloc(SIZE);
  flushes = 0;
  trims = 0;
  zeroes = 0;
  failure: NodeJS.ErrnoException | null = null;

  constructor(name: string) {
    this.name = name;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    return Buffer.from(this.content.subarray(offset, offset + length));
  }
  async write(offset: number, bytes: Buffer): Promise<void> {
    if (this.failure !== null) throw this.failure;
    bytes.copy(this.content, offset);
  }
  async writeZeroes(offset: number, length: number): Promise<void> {
    this.zeroes += 1;
    this.content.fill(0, offset, offset + length);
  }
  async trim(offset: number, length: number): Promise<void> {
    this.trims += 1;
    this.content.fill(0, offset, offset + length);
  }
  async flush(): Promise<void> {
    this.flushes += 1;
  }
}

interface Served {
  readonly vda: MemoryDisk;
  readonly vdb: MemoryDisk;
  readonly dir: string;
  readonly socketPath: string;
  readonly ended: string[];
  uri(name: string): string;
}

async function served(
  work: (served: Served) => Promise<void>,
  options: Partial<NbdServerOptions> = {},
): Promise<void> {
  await withMemoryDir(async dir => {
    const [vda, vdb] = [new MemoryDisk('vda'), new MemoryDisk('vdb')];
    const socketPath = join(dir, 'nbd.sock');
    const ended: string[] = [];
    const onClient = (event: { ended: string | null }) => {
      if (event.ended !== null) ended.push(event.ended);
    };
    const server = await NbdServer.listen({ socketPath, exports: [vda, vdb], onClient, ...options });
    const uri = (name: string) => `nbd+unix:///${name}?socket=${socketPath}`;
    try {
      await work({ vda, vdb, dir, socketPath, ended, uri });
    } finally {
      await server.close();
    }
  });
}

const qemuIo = (uri: string, ...commands: string[]) =>
  run('qemu-io', ['-f', 'raw', ...commands.flatMap(command => ['-c', command]), uri]);

describe('a client that people use', () => {
  it('nbdinfo lists the disks and reads their sizes and abilities', async () => {
    await served(async ({ uri, socketPath }) => {
      const { stdout } = await run('nbdinfo', ['--list', '--json', uri('')]);
      const { exports } = JSON.parse(stdout);
      expect(exports.map((disk: { 'export-name': string }) => disk['export-name'])).toEqual(['vda', 'vdb']);
      expect(exports[0]).toMatchObject({
        'export-size': SIZE,
        is_read_only: false,
        can_flush: true,
        can_fua: true,
        can_multi_conn: true,
        can_trim: true,
        can_zero: true,
      });
      expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
    });
  });

  it('nbdcopy writes a whole disk over four connections, and reads it back', async () => {
    await served(async ({ uri, vda, vdb, dir }) => {
      const image = join(dir, 'disk.raw');
      const content = Buffer.alloc(SIZE);
      randomBytes(5_000_001).copy(content, 1_000_003);
      randomBytes(3_000_000).copy(content, SIZE - 3_000_000);
      await writeFile(image, content);
      await run('nbdcopy', ['--connections=4', '--flush', image, uri('vda')]);
      expect(vda.content.equals(content)).toBe(true);
      expect(vda.flushes).toBeGreaterThan(0);
      expect(vdb.content.equals(ZEROS)).toBe(true);
      await run('nbdcopy', [uri('vda'), join(dir, 'back.raw')]);
      expect((await readFile(join(dir, 'back.raw'))).equals(content)).toBe(true);
    });
  });

  it('qemu-io writes, zeroes, discards and flushes; FUA is a flush', async () => {
    await served(async ({ uri, vda }) => {
      await qemuIo(uri('vda'), 'write -P 0xaa 4097 70000', 'write -f -P 0xbb 1M 4k');
      expect(vda.content.subarray(4097, 74_097).every(byte => byte === 0xaa)).toBe(true);
      expect(vda.flushes).toBeGreaterThan(0);
      await qemuIo(uri('vda'), 'write -z 8k 8k', 'discard 16k 8k', 'flush');
      expect(vda.content.subarray(8192, 24_576).every(byte => byte === 0)).toBe(true);
      expect(vda.zeroes + vda.trims).toBeGreaterThanOrEqual(2);
      const { stdout } = await qemuIo(uri('vda'), 'read -P 0xbb 1M 4k', 'read -P 0 8k 16k');
      expect(stdout).not.toContain('verification failed');
    });
  });

  it('qemu-img converts onto it and compares with it', async () => {
    await served(async ({ uri, dir }) => {
      const image = join(dir, 'disk.qcow2');
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(SIZE)]);
      await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 3M 9M', '-c', 'write -P 9 31M 1M', image]);
      await run('qemu-img', [
        'convert',
        '-n',
        '-W',
        '-m',
        '8',
        '-f',
        'qcow2',
        '-O',
        'raw',
        image,
        uri('vdb'),
      ]);
      const { stdout } = await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', image, uri('vdb')]);
      expect(stdout).toContain('identical');
    });
  });

  it('hears of a write that failed, and goes on', async () => {
    await served(async ({ uri, vda }) => {
      vda.failure = Object.assign(new Error('no room'), { code: 'ENOSPC' });
      const { stdout } = await qemuIo(uri('vda'), 'write 0 4k', 'read 0 4k').catch(error => error);
      expect(stdout).toContain('No space left on device');
      expect(stdout).toContain('read 4096/4096');
    });
  });
});

/** A connection that speaks bytes. */
class RawClient {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  isClosed = false;

  constructor(socketPath: string) {
    this.socket = connect(socketPath);
    this.socket.on('data', chunk => {
      this.#received = Buffer.concat([this.#received, chunk]);
    });
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.isClosed = true;
    });
  }

  async take(count: number): Promise<Buffer> {
    await expect.poll(() => this.#received.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(count);
    const bytes = this.#received.subarray(0, count);
    this.#received = this.#received.subarray(count);
    return bytes;
  }

  async closed(): Promise<void> {
    await expect.poll(() => this.isClosed, { timeout: 10_000 }).toBe(true);
  }

  async chooses(name: string): Promise<void> {
    await this.take(18);
    this.socket.write(Buffer.concat([u32(3), option(1, Buffer.from(name))]));
    await this.take(10);
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

const option = (number: number, data: Buffer, length = data.length): Buffer =>
  Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(length), data]);

function request(command: number, offset: bigint, length: number, flags = 0, cookie = 7n): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeBigUInt64BE(offset, 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

describe('a client that means harm', () => {
  it('is hung up on when it breaks the protocol, and others go on', async () => {
    await served(async ({ socketPath, uri, ended }) => {
      const harms: ((client: RawClient) => Promise<void>)[] = [
        async client => void client.socket.write(u32(0)),
        async client => void client.socket.write(u32(0xffff)),
        async client => void client.socket.write(Buffer.concat([u32(3), randomBytes(16)])),
        async client =>
          void client.socket.write(Buffer.concat([u32(3), option(7, Buffer.alloc(0), 0xffff_ffff)])),
        async client => void client.socket.write(Buffer.concat([u32(3), option(1, Buffer.from('../vda'))])),
        async client =>
          void client.socket.write(Buffer.concat([u32(3), ...Array(65).fill(option(99, Buffer.alloc(0)))])),
        async client => {
          await client.chooses('vda');
          client.socket.write(randomBytes(28));
        },
        async client => {
          await client.chooses('vda');
          client.socket.write(request(1, 0n, 0x7fff_ffff));
        },
        async client => {
          await client.chooses('vda');
          client.socket.write(Buffer.concat([request(1, 0n, 4096), Buffer.alloc(100)]));
          client.socket.end();
        },
      ];
      for (const harm of harms) {
        const client = new RawClient(socketPath);
        await harm(client);
        await client.closed();
      }
      expect(ended).toEqual(['out of step', `a write of ${0x7fff_ffff} bytes`, 'ended within a write']);
      const { stdout } = await qemuIo(uri('vda'), 'read 0 4k');
      expect(stdout).toContain('read 4096/4096');
    });
  });

  it('is told what is wrong with a request that cannot be carried out', async () => {
    await served(async ({ socketPath, vda }) => {
      const client = new RawClient(socketPath);
      await client.chooses('vda');
      const requests: [Buffer, number][] = [
        [request(0, BigInt(SIZE), 1), 22],
        [request(0, 0xffff_ffff_ffff_ffffn, 4096), 22],
        [request(0, 0n, 0xffff_ffff), 22],
        [Buffer.concat([request(1, BigInt(SIZE - 10), 20), Buffer.alloc(20, 1)]), 28],
        [request(6, BigInt(SIZE - 10), 20), 28],
        [request(4, BigInt(SIZE - 10), 20), 22],
        [request(0, 0n, 512, 0x80), 22],
        [request(7, 0n, 512), 22],
        [request(99, 0n, 512), 22],
        [request(3, 1n, 0), 22],
      ];
      for (const [bytes, error] of requests) {
        client.socket.write(bytes);
        const reply = await client.take(16);
        expect([reply.readUInt32BE(0), reply.readUInt32BE(4), reply.readBigUInt64BE(8)]).toEqual([
          0x67446698,
          error,
          7n,
        ]);
      }
      expect(vda.content.equals(ZEROS)).toBe(true);
      client.socket.write(request(2, 0n, 0));
      await client.closed();
    });
  });

  it('is sent away when it does not choose in time, and cannot take every place', async () => {
    await served(
      async ({ socketPath }) => {
        const idle = [new RawClient(socketPath), new RawClient(socketPath)];
        await Promise.all(idle.map(client => client.take(18)));
        const third = new RawClient(socketPath);
        await third.closed();
        await Promise.all(idle.map(client => client.closed()));
        const later = new RawClient(socketPath);
        await later.chooses('vda');
        later.socket.destroy();
      },
      { maxConnections: 2, negotiationMs: 300 },
    );
  });

  it('that does not read its answers is held back, not stored', async () => {
    await served(async ({ socketPath, vda }) => {
      const client = connect(socketPath);
      client.pause();
      client.write(Buffer.concat([u32(3), option(1, Buffer.from('vda'))]));
      let reads = 0;
      const { read } = vda;
      vda.read = async (offset, length) => {
        reads += 1;
        return read.call(vda, offset, length);
      };
      client.write(Buffer.concat(Array.from({ length: 200 }, () => request(0, 0n, SIZE))));
      await expect.poll(() => reads).toBeGreaterThan(0);
      await new Promise(resolve => setTimeout(resolve, 300));
      // 64 MiB at a time, of 32 MiB each.
      expect(reads).toBeLessThanOrEqual(3);
      client.destroy();
    });
  });
});
