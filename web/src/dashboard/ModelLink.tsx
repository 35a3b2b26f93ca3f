// A model by its short name, which leads to its page.
import { Link } from "@tanstack/react-router";
import { shortId } from "~/api/names";

/** `none`: what stands there while there is no model. */
export function ModelLink({ name, none = "none" }: { name: string | undefined; none?: string }) {
  if (!name) return <span className="text-ink-faint">{none}</span>;
  return (
    <Link
      to={`/dashboard/models/${shortId(name)}` as string}
      title={name}
      className="underline decoration-line-strong underline-offset-2 hover:decoration-current"
    >
      {shortId(name)}
    </Link>
  );
}
