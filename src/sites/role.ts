/** What a site's role brings to the worker process. */

/** One task queue that this process serves, and how. */
export interface QueueService {
  readonly taskQueue: string;
  readonly activities: object;
  /** True for the queue on which the workflows run. */
  readonly workflows: boolean;
  /** How many activities may run at once. */
  readonly slots: number;
}

export interface Role {
  readonly queues: readonly QueueService[];
  /** For the operator's eyes at start. */
  readonly facts: readonly { readonly name: string; readonly value: string }[];
  close(): Promise<void>;
}

/** Merges services of one queue: a node that is source and replica at once has one control queue. */
export function mergeQueues(services: readonly QueueService[]): readonly QueueService[] {
  const merged = new Map<string, QueueService>();
  for (const service of services) {
    const other = merged.get(service.taskQueue);
    merged.set(
      service.taskQueue,
      other === undefined
        ? service
        : {
            taskQueue: service.taskQueue,
            activities: { ...other.activities, ...service.activities },
            workflows: other.workflows || service.workflows,
            slots: Math.max(other.slots, service.slots),
          },
    );
  }
  return [...merged.values()];
}
