// The switch between light, dark and the system's own.
import { Monitor, Moon, Sun } from "lucide-react";
import { IconButton } from "./Button";
import { type Theme, useTheme } from "./theme";

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const PICTURE = { system: <Monitor size={15} />, light: <Sun size={15} />, dark: <Moon size={15} /> };

export function ThemeMenu() {
  const { theme, setTheme } = useTheme();
  return (
    <IconButton label={`Theme: ${theme}. Switch to ${NEXT[theme]}`} onClick={() => setTheme(NEXT[theme])}>
      {PICTURE[theme]}
    </IconButton>
  );
}
