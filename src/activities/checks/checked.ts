/** Looks at what came from the other site before anything is done with it. */
import type { z } from 'zod';
import { shownValue } from '../../domain/plain-words.ts';

/** A schema for each field of `Type`: one that the contract gets and the schema lacks does not compile. */
export type Shape<Type> = { readonly [Key in keyof Required<Type>]: z.ZodType<Type[Key]> };

/**
 * @param refuse makes the error from the first fault in words, which name the field and, in short, its value
 * @returns the value as the schema gives it: fields that it does not know are left out
 */
export function checked<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  refuse: (fault: string) => Error,
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw refuse(issue === undefined ? 'it cannot be read' : faultWords(issue, value));
}

function faultWords({ path, message }: z.core.$ZodIssue, value: unknown): string {
  let found = value;
  for (const step of path) found = (found as Record<PropertyKey, unknown> | null | undefined)?.[step];
  const place = path.map(step => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('');
  return `${place === '' ? 'it' : place.replace(/^\./, '')} is ${shownValue(found)}: ${message}`;
}

// biome-ignore lint/suspicious/noExplicitAny: activities of all kinds
type Activities<Names extends string> = Readonly<Record<Names, (input: any) => Promise<any>>>;

/** The same activities; each looks at its input first. @param refuse as in {@link checked} */
export function withCheckedInputs<Names extends string, All extends Activities<Names>>(
  schemas: { readonly [Name in Names]: z.ZodType<Parameters<All[Name]>[0]> },
  activities: All,
  refuse: (activity: string, fault: string) => Error,
): All {
  const names = Object.keys(schemas) as Names[];
  const guarded = names.map(name => {
    const refused = (fault: string) => refuse(name, fault);
    return [name, async (input: unknown) => activities[name](checked(schemas[name], input, refused))];
  });
  return { ...activities, ...Object.fromEntries(guarded) };
}
