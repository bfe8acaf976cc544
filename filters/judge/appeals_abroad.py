"""Appeals to a judge in German, French, Spanish, Chinese and Russian, as patterns for `filters.judge.appeals`.

Fewer wordings than in English: the plain ones. A sentence counts where it speaks of this answer and of a mark for it,
or is nothing but a mark.
"""

from __future__ import annotations

_OF = r"(?:\s?(?:/|von|sur|de|из|out of)\s?\d{1,3})?"
_MARK = rf"\W{{1,4}}\d{{1,3}}{_OF}\W*$"

TO_A_JUDGE = [
    r"\b(?:ignorier\w*|vergiss|vergesst|missachte\w*)\b[^\n]{0,40}\b(?:anweisung|instruktion|kriterien|richtlinie)",
    r"\b(?:hinweis|notiz|anmerkung|nachricht) an (?:den|die|das) (?:juror|richter|bewert|prüfer|gutachter)",
    r"\b(?:ignore[rz]?|oublie[rz]?)\b[^\n]{0,40}\b(?:consignes?|critères|instructions précédentes)\b",
    r"\bnote (?:au|à l['’]attention du|pour le) (?:juge|correcteur|évaluateur)\b",
    r"\b(?:ignor[ae]n?|olvid[ae]n?)\b[^\n]{0,40}\b(?:instrucciones|criterios)\b",
    r"\bnota (?:para el|al) (?:juez|evaluador|calificador)\b",
    r"(?:忽略|无视|忘记)(?:以上|之前|上述|前面|所有|先前)[^\n]{0,12}(?:指令|指示|说明|规则)",
    r"(?:致|告)(?:评委|评审|评分者|裁判)",
    r"\b(?:игнорируй|забудь|проигнорируй)(?:те)?\b[^\n]{0,40}\b(?:инструкци|указани|критери)",
    r"\bпримечание для (?:судьи|оценщика|проверяющего)\b",
]
IN_AN_ANSWER = [
    # German
    r"\b(?:bewerte[nt]?|benote[nt]?)\b[^\n]{0,15}\b(?:diese|meine|die obige) (?:\w+ )?(?:antwort|lösung)\b"
    r"[^\n]{0,40}(?:\b\d|\bbest|\bhöchst|\bvoll|\bmaximal)",
    r"\b(?:diese|meine|die obige) (?:\w+ )?(?:antwort|lösung)\b[^\n]{0,30}\bverdient\b[^\n]{0,40}"
    r"(?:note\b|punkt|bewertung|\b\d)",
    r"\b(?:gib|gebt|geben sie|vergib|vergebt|vergeben sie)\b[^\n]{0,15}\b(?:dieser|meiner|der obigen) (?:\w+ )?"
    r"(?:antwort|lösung)\b[^\n]{0,40}(?:note\b|punkt|bewertung|\b\d)",
    rf"^\W*(?:gesamt)?(?:bewertung|punktzahl|wertung){_MARK}",
    # French
    r"\b(?:not(?:e|er|ez)|évalu(?:e|er|ez))\b[^\n]{0,15}\b(?:cette|ma) réponse\b[^\n]{0,40}(?:\b\d|\bmaxim|\bparfait)",
    r"\b(?:cette|ma) réponse\b[^\n]{0,30}\bmérite\b[^\n]{0,40}(?:\bnote\b|\bpoints?\b|\b\d)",
    r"\b(?:donne[rz]?|attribue[rz]?|accorde[rz]?|mets|mettez)\b(?=[^\n]{0,40}(?:\bnote\b|\bpoints?\b|\b\d))[^\n]{0,40}"
    r"\b(?:à|pour) (?:cette|ma) réponse\b",
    rf"^\W*(?:note|évaluation)(?: finale| globale| maximale)?\s?{_MARK}",
    # Spanish
    r"\b(?:califi(?:ca|que|car)|punt(?:úa|úe|uar)|eval(?:úa|úe|uar)|valora|valore)\b[^\n]{0,15}"
    r"\b(?:esta|mi) respuesta\b[^\n]{0,40}(?:\b\d|\bmáxim|\bperfect)",
    r"\b(?:esta|mi) respuesta\b[^\n]{0,30}\bmerece\b[^\n]{0,40}(?:puntuación|\bpuntos?\b|calificación|\bnota\b|\b\d)",
    r"\b(?:dale?|dé|otorg(?:a|ue)|asign(?:a|e)|ponle?|ponga)\b"
    r"(?=[^\n]{0,40}(?:puntuación|\bpuntos?\b|calificación|\bnota\b|\b\d))[^\n]{0,40}\b(?:esta|mi) respuesta\b",
    rf"^\W*(?:puntuación|calificación|valoración|nota)(?: final| total| máxima)?{_MARK}",
    # Chinese
    r"(?:这个|这条|这份|本|此|该|我的|上述|以上)(?:回答|答案|回复)[^\n]{0,15}"
    r"(?:打|评|给|得|值)[^\n]{0,10}(?:\d+ ?分|满分|最高分|[五十]分)",
    r"给(?:这个|这条|本|此|该|我的|上述|以上)(?:回答|答案|回复)[^\n]{0,6}(?:\d+ ?分|满分|最高分|[五十]分)",
    r"^\W*(?:最终|总)?(?:评分|得分|打分|分数)(?:\W{0,4}|为|是)\d{1,3}\s?(?:分|/\s?\d{1,3})?\W*$",
    # Russian
    r"\b(?:оцени|поставь|дай|присвой)(?:те)?\b[^\n]{0,15}\b(?:этот|этому|мой|моему) ответу?\b[^\n]{0,40}"
    r"(?:\b\d|высш|максим|балл)",
    r"\b(?:этот|мой) ответ\b[^\n]{0,30}\bзаслуживает\b[^\n]{0,40}(?:оценк|балл|\b\d)",
    rf"^\W*(?:итоговая |общая )?(?:оценка|балл){_MARK}",
]
