/** The certificates that a site knows: its own nodes', and those of the receivers that it has pinned. */
import { effect } from '../lib/fault-points.ts';
import { type Database, guarded, inTransaction } from './database.ts';

export interface NodeRegistry {
  /** Notes the certificate of a node of this site; a new one replaces the old. */
  register(input: { node: string; fingerprint: string }): Promise<void>;
  /**
   * Pins the certificate if its site has none yet; a site whose certificate is known may not bring another one,
   * at whatever address it listens.
   * @returns the given fingerprint if it is pinned now, else one that is
   */
  pinReceiver(input: { replicaSite: string; endpoint: string; fingerprint: string }): Promise<string>;
  /** Pins a certificate beside those that are pinned: an operator vouches for it. @returns false when it was already */
  vouchForReceiver(input: { replicaSite: string; fingerprint: string }): Promise<boolean>;
  /**
   * Forgets the pins of a site, or the one of this fingerprint. When none is left the next use pins anew.
   * @returns the fingerprints that were forgotten
   */
  unpinReceiver(input: { replicaSite: string; fingerprint: string | null }): Promise<readonly string[]>;
  /** By site and time. */
  listPins(): Promise<readonly ReceiverPin[]>;
}

export interface ReceiverPin {
  readonly replicaSite: string;
  readonly fingerprint: string;
  /** Where it was first seen; null when it was pinned by command. */
  readonly endpoint: string | null;
  readonly pinnedAtMs: number;
  readonly pinnedBy: 'first-use' | 'command';
}

interface PinRow {
  readonly replica_site: string;
  readonly fingerprint: string;
  readonly endpoint: string | null;
  readonly pinned_at: Date;
  readonly pinned_by: 'first-use' | 'command';
}

export function createNodeRegistry(db: Database): NodeRegistry {
  return guarded<NodeRegistry>({
    async register({ node, fingerprint }) {
      await effect('catalog.commit.registerNode', () =>
        db('nodes')
          .insert({ name: node, fingerprint })
          .onConflict('name')
          .merge({ fingerprint, registered_at: db.fn.now() }),
      );
    },

    async pinReceiver({ replicaSite, endpoint, fingerprint }) {
      const known = () =>
        db<PinRow>('pinned_receivers')
          .where('replica_site', replicaSite)
          .orderBy('pinned_at')
          .select('fingerprint');
      const accepted = (await known()).map(row => row.fingerprint);
      if (accepted.includes(fingerprint)) return fingerprint;
      if (accepted[0] !== undefined) return accepted[0];
      return inTransaction(db, 'source.commit.pinReceiver', async trx => {
        // Two at once must not both be the first.
        await trx.raw('lock table pinned_receivers in share row exclusive mode');
        const first = await known().transacting(trx);
        if (first[0] !== undefined) {
          return first.some(row => row.fingerprint === fingerprint) ? fingerprint : first[0].fingerprint;
        }
        await trx('pinned_receivers').insert({ replica_site: replicaSite, endpoint, fingerprint });
        return fingerprint;
      });
    },

    async vouchForReceiver({ replicaSite, fingerprint }) {
      const made = await effect('source.commit.vouchForReceiver', () =>
        db('pinned_receivers')
          .insert({ replica_site: replicaSite, fingerprint, pinned_by: 'command' })
          .onConflict(['replica_site', 'fingerprint'])
          .ignore()
          .returning('fingerprint'),
      );
      return made.length > 0;
    },

    async unpinReceiver({ replicaSite, fingerprint }) {
      const key = { replica_site: replicaSite, ...(fingerprint === null ? {} : { fingerprint }) };
      const rows = await effect('source.commit.unpinReceiver', () =>
        db('pinned_receivers').where(key).delete().returning<{ fingerprint: string }[]>('fingerprint'),
      );
      return rows.map(row => row.fingerprint);
    },

    async listPins() {
      const rows = await db<PinRow>('pinned_receivers').orderBy(['replica_site', 'pinned_at', 'fingerprint']);
      return rows.map(row => ({
        replicaSite: row.replica_site,
        fingerprint: row.fingerprint,
        endpoint: row.endpoint,
        pinnedAtMs: row.pinned_at.getTime(),
        pinnedBy: row.pinned_by,
      }));
    },
  });
}
