// Signing in with an API key, or by a one-time link whose token stands behind the # (which no server sees or logs).
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type FormEvent, useEffect, useState } from "react";
import { Button } from "~/design/Button";
import { Field, Input } from "~/design/Field";
import mark from "~/design/mark.svg";
import { useSigning } from "./session";

export function SignIn() {
  const { signIn } = useSigning();
  const navigate = useNavigate();
  const { next } = useSearch({ strict: false }) as { next?: string };
  const [apiKey, setApiKey] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);

  const enter = async (with_: { apiKey: string } | { link: string }) => {
    setBusy(true);
    try {
      await signIn(with_);
      const here = window.location.pathname;
      const target = next ?? (here === "/dashboard/sign-in" ? "/dashboard" : here + window.location.search);
      navigate({ href: target.startsWith("/dashboard") ? target : "/dashboard", replace: true });
    } catch (failure) {
      setError(failure instanceof Error ? failure.message : String(failure));
    } finally {
      setBusy(false);
    }
  };

  // biome-ignore lint/correctness/useExhaustiveDependencies: a link signs in once, when the page opens
  useEffect(() => {
    const link = new URLSearchParams(window.location.hash.slice(1)).get("link");
    if (!link) return;
    history.replaceState(null, "", window.location.pathname + window.location.search);
    enter({ link });
  }, []);

  return (
    <main className="grid min-h-dvh place-items-center p-4">
      <form
        className="flex w-full max-w-sm flex-col gap-4 rounded-xl border bg-surface p-6 shadow-raised"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          enter({ apiKey: apiKey.trim() });
        }}
      >
        <h1 className="flex items-center gap-2 text-lg font-semibold">
          <img src={mark} alt="" className="size-7" />
          Sign in to Tunesmith
        </h1>
        <Field
          label="API key"
          error={error}
          hint={
            <>
              On the platform's machine <code>tunesmith dashboard</code> signs you in by itself;{" "}
              <code>tunesmith env</code> prints the key.
            </>
          }
        >
          {(ids) => (
            <Input
              {...ids}
              type="password"
              autoComplete="current-password"
              required
              value={apiKey}
              onChange={(event) => setApiKey(event.target.value)}
            />
          )}
        </Field>
        <Button kind="primary" type="submit" busy={busy}>
          Sign in
        </Button>
      </form>
    </main>
  );
}
