// Tokens in runs of equal weight, so that a mask is read as passages and not as confetti.

export interface Run {
  weight: number;
  tokens: string[];
}

export function runsOf(tokens: readonly string[], weights: readonly number[]): Run[] {
  const runs: Run[] = [];
  tokens.forEach((token, place) => {
    const weight = weights[place] ?? 0;
    const last = runs.at(-1);
    if (last && last.weight === weight) last.tokens.push(token);
    else runs.push({ weight, tokens: [token] });
  });
  return runs;
}
