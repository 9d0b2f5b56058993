/** What a supervisor runs, given as data, and what each kind of service turns it into. */

/** An embedded PostgreSQL, its data under DIR/postgres. */
export interface PostgresService {
  kind: 'postgres';
  name: string;
  port: number;
  /** Databases that are made if they are missing. */
  databases: readonly string[];
  /** Off only where the data is thrown away anyway (tests). */
  fsync?: boolean;
}

/** An embedded Temporal dev server. */
export interface TemporalService {
  kind: 'temporal';
  name: string;
  /** The Temporal command line, see {@link findTemporalCli}. */
  cliPath: string;
  grpcPort: number;
  httpPort: number;
  /** Null: no Web UI. */
  uiPort: number | null;
  /** False: everything is in memory and gone at the end. */
  persistent: boolean;
}

/** Any other process. It counts as ready once it runs. */
export interface ProcessService {
  kind: 'process';
  name: string;
  command: string;
  args: readonly string[];
  cwd?: string;
  /** Added to the supervisor's environment. */
  env?: Readonly<Record<string, string>>;
  /** How long it may take to end after SIGTERM before its group is killed; 20 s if left out. */
  stopTimeoutMs?: number;
}

export type ServiceSpec = PostgresService | TemporalService | ProcessService;

/** A prepared service: how its process is started, seen to be ready, and stopped. */
export interface Launch {
  name: string;
  command: string;
  args: readonly string[];
  cwd: string;
  env: NodeJS.ProcessEnv;
  uid?: number;
  gid?: number;
  stopSignal: NodeJS.Signals;
  /** After this long without an end: SIGKILL to the group. */
  stopTimeoutMs: number;
  /** Runs before each start, also after a crash. */
  beforeStart?(): void;
  /** Whether the service answers now; asked again until it does. */
  isReady?(): Promise<boolean>;
  /** Runs once after the first readiness. */
  afterReady?(): Promise<void>;
}
