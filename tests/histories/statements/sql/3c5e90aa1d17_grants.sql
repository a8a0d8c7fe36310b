/* Umlaute: äöü – and a dash. */
CREATE TABLE "Größe" ("Maß" text PRIMARY KEY DEFAULT 'mm', note text);
INSERT INTO "Größe" VALUES ('cm', 'zehn µm · 1000'), ('ünïcode', U&'\00e4\0308');
REVOKE ALL ON "Größe" FROM PUBLIC;
