export function PivotPage() {
  return null;
}
