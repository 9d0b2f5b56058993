/** The metrics of the data port: who is connected, and who was turned away. */
import type { Counter, Gauge } from 'prom-client';
import type { ReceiverCounts } from '../transfer/receiver.ts';

/** What a scrape finds; absent without the replica role. */
export interface ReceiverFindings {
  readonly receiver?: ReceiverCounts | null;
}

type MakeGauge = <L extends string>(name: string, help: string, labelNames?: readonly L[]) => Gauge<L>;
type MakeCounter = <L extends string>(name: string, help: string, labelNames: readonly L[]) => Counter<L>;

export function receiverMetrics(
  gauge: MakeGauge,
  counter: MakeCounter,
): (findings: ReceiverFindings) => void {
  const connections = gauge(
    'receiver_connections',
    'Connections at the data port now: admitted ones, and those that have not said who they are (pending).',
    ['state'],
  );
  const turnedAway = counter(
    'receiver_turned_away_total',
    'Connections that had to leave before they had said who they are: for newer ones (displaced), or since their address opened too many (throttled).',
    ['reason'],
  );
  return ({ receiver = null }) => {
    for (const metric of [connections, turnedAway]) metric.reset();
    if (receiver === null) return;
    connections.set({ state: 'admitted' }, receiver.admitted);
    connections.set({ state: 'pending' }, receiver.pending);
    turnedAway.inc({ reason: 'displaced' }, receiver.displaced);
    turnedAway.inc({ reason: 'throttled' }, receiver.throttled);
  };
}
