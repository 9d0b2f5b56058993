/**
 * Who may hold a connection that has not shown yet that it may bring anything. Strangers can open connections
 * faster than we can judge them, so these have few places of their own, and the one that waits longest among those
 * of the busiest address makes room for the next: who comes honestly is judged within a moment.
 */
import type { Socket } from 'node:net';
import type { ReceiverLimits } from './limits.ts';

/** What became of connections, counted since the start. */
export interface GateCounts {
  /** Lost their place to a newer connection. */
  readonly displaced: number;
  /** Came while their address had opened too many within a second. */
  readonly throttled: number;
}

interface Entry {
  readonly socket: Socket;
  readonly address: string;
}

type GateLimits = Pick<
  ReceiverLimits,
  'pendingConnections' | 'pendingPerAddress' | 'newConnectionsPerSecond'
>;

/** Addresses whose rates are remembered; beyond this the oldest are forgotten. */
const REMEMBERED_ADDRESSES = 1024;

export class Gate {
  readonly #limits: GateLimits;
  readonly #nowMs: () => number;
  /** In the order in which they came. */
  readonly #pending = new Map<Socket, Entry>();
  readonly #perAddress = new Map<string, number>();
  readonly #rates = new Map<string, { tokens: number; atMs: number }>();
  #displaced = 0;
  #throttled = 0;

  /** @param nowMs a clock that never goes back */
  constructor(limits: GateLimits, nowMs: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#nowMs = nowMs;
  }

  get counts(): GateCounts {
    return { displaced: this.#displaced, throttled: this.#throttled };
  }

  /** How many hold a place. */
  get pending(): number {
    return this.#pending.size;
  }

  /**
   * Gives the connection a place until {@link pass} or its end, where need be that of another, which is destroyed.
   * @returns false when its address opens connections too fast: it is to be destroyed before anything is done for it
   */
  enter(socket: Socket): boolean {
    const address = placeOf(socket.remoteAddress);
    if (!this.#takeToken(address)) {
      this.#throttled += 1;
      return false;
    }
    const here = this.#perAddress.get(address) ?? 0;
    if (here >= this.#limits.pendingPerAddress) this.#displaceOldestOf(address);
    else if (this.#pending.size >= this.#limits.pendingConnections) {
      this.#displaceOldestOf(this.#busiest() ?? address);
    }
    this.#pending.set(socket, { socket, address });
    this.#perAddress.set(address, (this.#perAddress.get(address) ?? 0) + 1);
    socket.once('close', () => this.pass(socket));
    return true;
  }

  /** The connection was admitted, or is over: its place is free. */
  pass(socket: Socket): void {
    const entry = this.#pending.get(socket);
    if (entry === undefined) return;
    this.#pending.delete(socket);
    const left = (this.#perAddress.get(entry.address) ?? 1) - 1;
    if (left === 0) this.#perAddress.delete(entry.address);
    else this.#perAddress.set(entry.address, left);
  }

  #displaceOldestOf(address: string): void {
    for (const entry of this.#pending.values()) {
      if (entry.address !== address) continue;
      this.pass(entry.socket);
      this.#displaced += 1;
      entry.socket.resetAndDestroy();
      return;
    }
  }

  #busiest(): string | null {
    let busiest: string | null = null;
    let most = 0;
    for (const [address, count] of this.#perAddress) {
      if (count <= most) continue;
      most = count;
      busiest = address;
    }
    return busiest;
  }

  #takeToken(address: string): boolean {
    const perSecond = this.#limits.newConnectionsPerSecond;
    const nowMs = this.#nowMs();
    const known = this.#rates.get(address) ?? { tokens: perSecond, atMs: nowMs };
    const tokens = Math.min(perSecond, known.tokens + ((nowMs - known.atMs) / 1000) * perSecond);
    this.#rates.delete(address);
    this.#rates.set(address, { tokens: tokens >= 1 ? tokens - 1 : tokens, atMs: nowMs });
    if (this.#rates.size > REMEMBERED_ADDRESSES) {
      const oldest = this.#rates.keys().next().value;
      if (oldest !== undefined) this.#rates.delete(oldest);
    }
    return tokens >= 1;
  }
}

/** An address for counting: of IPv6 the /64, of which anybody may have all; IPv4 in one form. */
export function placeOf(remoteAddress: string | undefined): string {
  if (remoteAddress === undefined) return 'unknown';
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(remoteAddress);
  if (mapped?.[1] !== undefined) return mapped[1];
  if (!remoteAddress.includes(':')) return remoteAddress;
  const [head = '', tail] = (remoteAddress.split('%')[0] ?? '').split('::');
  const groups = head.split(':').filter(group => group !== '');
  if (tail !== undefined) {
    const after = tail.split(':').filter(group => group !== '');
    while (groups.length + after.length < 8) groups.push('0');
    groups.push(...after);
  }
  return `${groups.slice(0, 4).join(':')}::/64`;
}
