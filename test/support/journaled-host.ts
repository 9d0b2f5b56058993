/**
 * A running host as a recorder leaves it at site A: frozen bases, journals, epochs in the catalog. What writes is the
 * test, so that at each checkpoint it knows what every disk holds.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseUnreachableError } from '../../src/catalog/errors.ts';
import type { LayerFile } from '../../src/catalog/register-snapshot.ts';
import { createEpochRows } from '../../src/catalog/source-epochs.ts';
import { loadConfig } from '../../src/config/load-config.ts';
import { JournalWriter } from '../../src/images/cdp/journal-writer.ts';
import { openCatalog } from '../../src/sites/open-catalog.ts';
import { qemuImg, qemuIo } from './qemu.ts';
import type { TwoSites } from './two-sites.ts';

const SEGMENT_BYTES = 2 * 1024 * 1024;

/** What the disks held at a checkpoint. */
export interface KnownState {
  readonly sequence: number;
  readonly atMs: number;
  /** SHA-256 of the guest's content by disk, hexadecimal. */
  readonly sha256: Readonly<Record<string, string>>;
}

interface Disk {
  readonly content: Buffer;
  journal: JournalWriter | null;
  directory: string;
  /** Written since the base was frozen, as qemu-io does it. */
  pending: string[];
  active: string;
  chain: LayerFile[];
}

export class JournaledHost {
  readonly host: string;
  readonly #sites: TwoSites;
  readonly #epochs: ReturnType<typeof createEpochRows>;
  readonly #close: () => Promise<void>;
  readonly #journalRoot: string;
  readonly #disks = new Map<string, Disk>();
  readonly states: KnownState[] = [];
  /** Of the open epoch. */
  epochUuid = '';
  baseUuid = '';
  #sequence = 0;
  #timeUs = 0;
  #layers = 0;

  private constructor(
    sites: TwoSites,
    host: string,
    parts: { epochs: ReturnType<typeof createEpochRows>; close: () => Promise<void>; journalRoot: string },
  ) {
    this.host = host;
    this.#sites = sites;
    this.#epochs = parts.epochs;
    this.#close = parts.close;
    this.#journalRoot = parts.journalRoot;
  }

  /** @param sizes in bytes */
  static async create(sites: TwoSites, host: string, sizes: Record<string, number>): Promise<JournaledHost> {
    const config = await loadConfig(sites.configPath.a);
    const db = await openCatalog(config, 'source');
    const made = new JournaledHost(sites, host, {
      epochs: createEpochRows(db),
      close: () => db.destroy(),
      journalRoot: join(config.dataDir, 'journals'),
    });
    for (const [disk, size] of Object.entries(sizes)) {
      const active = made.#layerPath(disk);
      await qemuImg('create', '-q', '-f', 'qcow2', active, String(size));
      made.#disks.set(disk, {
        content: Buffer.alloc(size),
        ...{ active, directory: '', journal: null, chain: [], pending: [] },
      });
    }
    return made;
  }

  /** Freezes the active layers and begins an epoch upon them, as a take-over does. */
  async beginEpoch(): Promise<void> {
    [this.epochUuid, this.baseUuid] = [randomUUID(), randomUUID()];
    const start = { sequence: this.#sequence, timeUs: this.#tick() };
    this.#layers += 1;
    const disks = [];
    for (const [name, disk] of this.#disks) {
      await qemuIo(disk.active, disk.pending);
      disk.pending = [];
      const base = await fileOf(disk.active);
      disk.directory = join(this.#journalRoot, this.host, this.epochUuid, name);
      await mkdir(disk.directory, { recursive: true });
      disk.journal = await JournalWriter.create(
        {
          directory: disk.directory,
          identity: {
            ...{ epoch: this.epochUuid, host: this.host, disk: name },
            virtualSizeBytes: disk.content.length,
          },
          segmentBytes: SEGMENT_BYTES,
        },
        start,
      );
      disks.push({
        ...{ disk: name, node: 'a1', virtualSizeBytes: disk.content.length, base, chain: disk.chain },
        journal: await fileOf(disk.directory),
      });
      disk.chain = [base, ...disk.chain];
      disk.active = this.#layerPath(name);
      await qemuImg('create', '-q', '-f', 'qcow2', '-b', base.path, '-F', 'qcow2', disk.active);
    }
    await this.#epochs.registerEpoch({
      ...{ host: this.host, uuid: this.epochUuid, baseUuid: this.baseUuid, originSite: 'a' },
      ...{ takenAtMs: Date.now(), disks },
    });
  }

  /** One write of the guest: the bytes all the same, so that the layers can hold it, too. */
  async write(name: string, offset: number, length: number, byte: number): Promise<void> {
    const disk = this.#disk(name);
    disk.content.fill(byte, offset, offset + length);
    disk.pending.push(`write -q -P ${byte} ${offset} ${length}`);
    this.#sequence += 1;
    // Before the first epoch nobody records.
    await disk.journal?.append({
      ...{ type: 'write' as const, sequence: this.#sequence, timeUs: this.#tick(), offset, length },
      payload: Buffer.alloc(length, byte),
    });
  }

  /** @param name of a marker */
  async checkpoint(name = ''): Promise<KnownState> {
    this.#sequence += 1;
    const [sequence, timeUs] = [this.#sequence, this.#tick()];
    const payload = Buffer.from(name);
    const record = {
      type: 'checkpoint' as const,
      sequence,
      timeUs,
      offset: 0,
      length: payload.length,
      payload,
    };
    await Promise.all([...this.#disks.values()].map(({ journal }) => journal?.append(record)));
    await Promise.all([...this.#disks.values()].map(({ journal }) => journal?.sync()));
    const digests = [...this.#disks].map(([disk, { content }]) => [
      disk,
      createHash('sha256').update(content).digest('hex'),
    ]);
    const state = { sequence, atMs: timeUs / 1000, sha256: Object.fromEntries(digests) };
    this.states.push(state);
    const markers = name === '' ? [] : [{ sequence, atMs: state.atMs, name }];
    // As for a recorder, a catalog that does not answer is told at the next checkpoint.
    const noted = { uuid: this.epochUuid, sequence, atMs: state.atMs, markers };
    await this.#epochs.noteCheckpoint(noted).catch(unlessUnreachable);
    return state;
  }

  /** Ends the epoch; the newest checkpoint is the last of it. */
  async endEpoch(reason: string): Promise<void> {
    for (const disk of this.#disks.values()) {
      await disk.journal?.close();
      disk.journal = null;
    }
    await this.#epochs.endEpoch({ uuid: this.epochUuid, reason, checkpoint: null });
  }

  async close(): Promise<void> {
    for (const { journal } of this.#disks.values()) await journal?.close();
    await this.#close();
  }

  #disk(name: string): Disk {
    const disk = this.#disks.get(name);
    if (disk === undefined) throw new Error(`${this.host} has no disk ${name}`);
    return disk;
  }

  #layerPath = (disk: string): string =>
    join(this.#sites.imageDir, `${this.host}-${disk}-${this.#layers}.qcow2`);

  /** This machine's clock, never falling. */
  #tick(): number {
    this.#timeUs = Math.max(this.#timeUs + 1, Date.now() * 1000);
    return this.#timeUs;
  }
}

function unlessUnreachable(error: unknown): void {
  if (!(error instanceof DatabaseUnreachableError)) throw error;
}

async function fileOf(path: string): Promise<LayerFile> {
  const { dev, ino } = await stat(path, { bigint: true });
  return { path, device: String(dev), inode: String(ino) };
}
