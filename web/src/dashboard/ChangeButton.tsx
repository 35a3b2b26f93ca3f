// A button that changes something: whoever may only look sees it disabled, with the reason.
import { Button, type ButtonProps } from "~/design/Button";
import { useMayChange, useSession } from "./session";

export function useReasonNotTo(): string | undefined {
  const may = useMayChange();
  const { data } = useSession();
  return may
    ? undefined
    : `The role ${data?.role ?? "viewer"} may only look. Sign in with an API key to change things.`;
}

export function ChangeButton({ disabled, title, ...rest }: ButtonProps) {
  const reason = useReasonNotTo();
  return <Button {...rest} disabled={disabled || reason !== undefined} title={reason ?? title} />;
}
