/** The shape of a node's configuration file. docs/operations.md shows one for each site. */
import { z } from 'zod';
import { IDENT, SITE_NAME } from '../contract/names.ts';
import { FormatError, parseDuration } from '../lib/durations.ts';
import { parseRate, parseSize, parseSizeOrShare } from '../lib/sizes.ts';
import { parseEndpoint } from './endpoint.ts';

/** Turns a parser that throws {@link FormatError} into a check; the text itself is kept. */
function readable(parse: (text: string) => unknown) {
  return z.string().superRefine((text, context) => {
    try {
      parse(text);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
    }
  });
}

const siteName = z.string().regex(SITE_NAME, 'must be 1 to 32 of a-z, 0-9 and -, beginning with a letter');
const filePath = z.string().min(1, 'must not be empty');
const endpoint = readable(text => parseEndpoint(text));
const reachableEndpoint = readable(text => {
  if (parseEndpoint(text).port === 0) throw new FormatError(`'${text}' needs a port above 0`);
});
const size = readable(text => parseSize(text));
const sizeOrShare = readable(text => parseSizeOrShare(text));
const hostPattern = z
  .string()
  .refine(text => text === '*' || IDENT.test(text), "must be a host's ident, or '*' for every host");
/** As openssl prints it (`AB:CD:…`) or plain; kept as 64 lower-case digits. */
const fingerprint = z
  .string()
  .transform(text => text.replaceAll(':', '').toLowerCase())
  .pipe(z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 fingerprint: 64 hexadecimal digits'));

const connectionString = z
  .string()
  .regex(/^postgres(ql)?:\/\/\S+$/, 'must be a connection string like postgres://user:password@host/database')
  .refine(text => URL.canParse(text), {
    error: 'cannot be read: write special characters of the password as percent codes, such as %40 for @',
    abort: true,
  });

const replicaSiteSchema = z.strictObject({
  site: siteName,
  hosts: z.array(hostPattern).min(1, "must name at least one host, or '*'"),
  endpoints: z.array(reachableEndpoint).optional(),
  fingerprints: z.array(fingerprint).optional(),
});

/** The schema of the file, environment already laid over it; paths are not resolved yet. */
export const siteConfigSchema = z.strictObject({
  site: siteName,
  node: siteName,
  dataDir: filePath,
  database: z.strictObject({
    url: connectionString,
    /** The role that owns the tables: only `offsite setup` uses it. Absent: the role of `url` owns them. */
    ownerUrl: connectionString.optional(),
  }),
  temporal: z
    .strictObject({
      address: reachableEndpoint.optional(),
      namespace: z.string().min(1, 'must not be empty').optional(),
    })
    .default({}),
  webUiUrl: z.url({ protocol: /^https?$/, error: 'must be an http or https address' }).optional(),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
  /** `/metrics` and `/healthz`; absent: off. */
  metrics: z.strictObject({ listen: endpoint }).optional(),
  source: z
    .strictObject({
      imageRoots: z.array(filePath).min(1, 'must name at least one folder'),
      replicaSites: z.array(replicaSiteSchema),
      /** What `offsite source record` writes. */
      journals: z
        .strictObject({
          /** Absent: `journals` in dataDir. */
          directory: filePath.optional(),
          /** A new epoch begins after so long, and after so many bytes; 24h and 64GiB by default. */
          rollOverAfter: readable(text => parseDuration(text)).optional(),
          rollOverAt: size.optional(),
          /** The files of a journal have this size, from 2MiB to 1GiB; 64MiB by default. */
          segmentSize: size.optional(),
        })
        .optional(),
      /** Says when an image folder's file system has less free than this, as a size or a share of it. */
      guard: z
        .strictObject({
          freeBelow: sizeOrShare,
          /** While space is low, the locks of schedules that were silent for so long are released; absent: never. */
          releaseIdleAfter: readable(text => parseDuration(text)).optional(),
        })
        .optional(),
    })
    .optional(),
  replica: z
    .strictObject({
      listen: endpoint,
      advertise: reachableEndpoint.optional(),
      directory: filePath.optional(),
      seedRoots: z.array(filePath).optional(),
      /** What stays free on the replicas' file system, as a size or a share of it: `10GiB`, `5%`; 1 % by default. */
      reserve: sizeOrShare.optional(),
      /** What the replicas on this node may occupy. */
      quota: size.optional(),
      /** Reads each replica file whole this often, no faster than `rate` (20MiB/s by default); absent: off. */
      scrub: z
        .strictObject({ every: readable(parseDuration), rate: readable(parseRate).optional() })
        .optional(),
      /** The same of single hosts. */
      hostQuotas: z.record(z.string().regex(IDENT, "must be a host's ident"), size).optional(),
      /** How many workflows the worker keeps in memory; 500 by default. */
      maxCachedWorkflows: z.int().min(1, 'must be at least 1').optional(),
      /** How long the journals of continuous data protection are kept, and how much of them; absent: for ever. */
      journals: z
        .strictObject({ keep: readable(parseDuration).optional(), size: size.optional() })
        .optional(),
    })
    .optional(),
});

/**
 * One node of a site. Paths are absolute once loaded. `listen`, `advertise` and `endpoints` are `host:port`
 * (see `parseEndpoint`), checked already.
 */
export type SiteConfig = z.output<typeof siteConfigSchema>;
/** What may be written: as {@link SiteConfig}, where defaults may be left out. */
export type SiteConfigFile = z.input<typeof siteConfigSchema>;
