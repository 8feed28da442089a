// Calls what it has bound, as it is told: see wrangler.toml beside it.

interface Ask {
  readonly binding: string;
  /** The object's name, where the binding is a namespace. */
  readonly object?: string;
  readonly method: string;
  readonly given: readonly unknown[];
}
type Methods = Record<string, (...given: readonly unknown[]) => Promise<unknown>>;
type Binding = Methods & { readonly getByName: (name: string) => Methods };

export default {
  async fetch(request, env) {
    const { binding, object, method, given } = await request.json<Ask>();
    try {
      const bound = env[binding]!;
      const target = object === undefined ? bound : bound.getByName(object);
      return Response.json({ answer: await target[method]!(...given) });
    } catch (error) {
      return Response.json({ threw: String(error) });
    }
  },
} satisfies ExportedHandler<Record<string, Binding>>;
