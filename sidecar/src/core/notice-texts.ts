/**
 * The words that stand in where a tier's owner wrote none. Each says what happens now, why, and what the reader can do;
 * none names an amount.
 */
import type { NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import type { CapKind } from './terms.ts'

export const BUILT_IN_LOCALES = ['en', 'de', 'fr', 'es', 'ja'] as const
export type BuiltInLocale = (typeof BUILT_IN_LOCALES)[number]

export const BUILT_IN_TEXTS: Readonly<Record<NoticeOccasion, Readonly<Record<BuiltInLocale, string>>>> = {
  DropRetrieval: {
    en: 'Note: this conversation has used most of its budget, so documents looked up for earlier questions are no longer read again. If an answer needs one of them, ask about it once more or quote the passage.',
    de: 'Hinweis: Diese Unterhaltung hat den größten Teil ihres Budgets verbraucht. Dokumente, die für frühere Fragen nachgeschlagen wurden, werden deshalb nicht noch einmal gelesen. Braucht eine Antwort eines davon, fragen Sie erneut danach oder zitieren Sie die Stelle.',
    fr: 'Remarque : cette conversation a utilisé la plus grande partie de son budget ; les documents consultés pour les questions précédentes ne sont donc plus relus. Si une réponse en a besoin, reposez la question à leur sujet ou citez le passage.',
    es: 'Nota: esta conversación ha usado la mayor parte de su presupuesto, así que los documentos consultados para preguntas anteriores ya no se vuelven a leer. Si una respuesta necesita alguno, pregunte de nuevo por él o cite el pasaje.',
    ja: 'お知らせ：この会話は予算の大部分を使用したため、以前の質問のために検索した資料は再度読み込まれません。回答に必要な場合は、もう一度その資料について質問するか、該当箇所を引用してください。',
  },
  Summarize: {
    en: 'Note: this conversation has become long, so its earlier part is now passed on as a summary and details may be missing. If a detail from before matters, please repeat it.',
    de: 'Hinweis: Diese Unterhaltung ist lang geworden. Ihr früherer Teil wird ab jetzt als Zusammenfassung weitergegeben, Einzelheiten können dabei fehlen. Wenn etwas von früher wichtig ist, wiederholen Sie es bitte.',
    fr: 'Remarque : cette conversation est devenue longue ; sa première partie est désormais transmise sous forme de résumé et des détails peuvent manquer. Si un détail antérieur compte, merci de le répéter.',
    es: 'Nota: esta conversación se ha hecho larga, por lo que su parte anterior se transmite ahora como resumen y pueden faltar detalles. Si un detalle anterior es importante, repítalo, por favor.',
    ja: 'お知らせ：会話が長くなったため、以前の部分は要約として引き継がれ、細部が省かれることがあります。以前の内容で大切な点があれば、もう一度お書きください。',
  },
  DowngradeModel: {
    en: 'Note: this conversation has used most of its budget, so it continues with a smaller model. Answers may be simpler; for a demanding question, start a new conversation.',
    de: 'Hinweis: Diese Unterhaltung hat den größten Teil ihres Budgets verbraucht und wird mit einem kleineren Modell fortgesetzt. Antworten können einfacher ausfallen; für eine anspruchsvolle Frage beginnen Sie bitte eine neue Unterhaltung.',
    fr: 'Remarque : cette conversation a utilisé la plus grande partie de son budget et se poursuit avec un modèle plus petit. Les réponses peuvent être plus simples ; pour une question exigeante, commencez une nouvelle conversation.',
    es: 'Nota: esta conversación ha usado la mayor parte de su presupuesto y continúa con un modelo más pequeño. Las respuestas pueden ser más sencillas; para una pregunta exigente, inicie una conversación nueva.',
    ja: 'お知らせ：この会話は予算の大部分を使用したため、より小さなモデルで続行します。回答が簡潔になることがあります。難しい質問は、新しい会話でお試しください。',
  },
  RefuseTools: {
    en: 'Note: this conversation is close to the end of its budget, so no further tools are used. I answer from what is already known here; for a task that needs tools, start a new conversation.',
    de: 'Hinweis: Das Budget dieser Unterhaltung ist fast verbraucht, deshalb werden keine weiteren Werkzeuge benutzt. Geantwortet wird aus dem, was hier schon bekannt ist; für eine Aufgabe, die Werkzeuge braucht, beginnen Sie bitte eine neue Unterhaltung.',
    fr: "Remarque : le budget de cette conversation est presque épuisé, aucun autre outil n'est donc utilisé. La réponse repose sur ce qui est déjà connu ici ; pour une tâche qui demande des outils, commencez une nouvelle conversation.",
    es: 'Nota: el presupuesto de esta conversación está casi agotado, por lo que no se usan más herramientas. Se responde con lo que ya se sabe aquí; para una tarea que necesite herramientas, inicie una conversación nueva.',
    ja: 'お知らせ：この会話の予算が残り少ないため、これ以上ツールは使用しません。ここまでに得られた情報からお答えします。ツールが必要な作業は、新しい会話で始めてください。',
  },
  DropOldest: {
    en: 'Note: this conversation has become longer than can be read at once, so its oldest part is left out from now on. If something from the beginning matters, please repeat it.',
    de: 'Hinweis: Diese Unterhaltung ist länger geworden, als auf einmal gelesen werden kann. Ihr ältester Teil bleibt ab jetzt außen vor. Wenn etwas vom Anfang wichtig ist, wiederholen Sie es bitte.',
    fr: 'Remarque : cette conversation est devenue trop longue pour être lue en une fois ; sa partie la plus ancienne est désormais laissée de côté. Si un élément du début compte, merci de le répéter.',
    es: 'Nota: esta conversación es ya más larga de lo que puede leerse de una vez, así que su parte más antigua queda fuera a partir de ahora. Si algo del principio es importante, repítalo, por favor.',
    ja: 'お知らせ：会話が一度に読み込める長さを超えたため、最も古い部分は今後含まれません。最初の方の内容で大切な点があれば、もう一度お書きください。',
  },
  Reset: {
    en: 'Note: as its plan provides, this conversation goes on in a new session. Earlier messages are no longer read; please repeat what is still needed.',
    de: 'Hinweis: Diese Unterhaltung geht, wie es ihr Tarif vorsieht, in einer neuen Sitzung weiter. Frühere Nachrichten werden nicht mehr gelesen; bitte wiederholen Sie, was noch gebraucht wird.',
    fr: 'Remarque : comme le prévoit son forfait, cette conversation se poursuit dans une nouvelle session. Les messages précédents ne sont plus lus ; merci de répéter ce qui est encore utile.',
    es: 'Nota: como prevé su plan, esta conversación continúa en una sesión nueva. Los mensajes anteriores ya no se leen; repita, por favor, lo que aún haga falta.',
    ja: 'お知らせ：ご利用プランの定めにより、この会話は新しいセッションとして続きます。以前のメッセージは読み込まれません。引き続き必要な内容は、もう一度お書きください。',
  },
  End: {
    en: 'This conversation has used up its budget and ends here; nothing that was said is lost. To go on, start a new conversation and bring along what you still need.',
    de: 'Diese Unterhaltung hat ihr Budget verbraucht und endet hier; nichts von dem Gesagten geht verloren. Um weiterzumachen, beginnen Sie eine neue Unterhaltung und nehmen Sie mit, was Sie noch brauchen.',
    fr: "Cette conversation a épuisé son budget et s'arrête ici ; rien de ce qui a été dit n'est perdu. Pour continuer, commencez une nouvelle conversation en reprenant ce dont vous avez encore besoin.",
    es: 'Esta conversación ha agotado su presupuesto y termina aquí; nada de lo dicho se pierde. Para seguir, inicie una conversación nueva y lleve consigo lo que aún necesite.',
    ja: 'この会話は予算を使い切ったため、ここで終了します。これまでの内容が失われることはありません。続ける場合は、必要な内容を添えて新しい会話を始めてください。',
  },
  Upgrade: {
    en: 'You use this enough to belong on {{tier}}: it leaves more room for long conversations. You can change whenever you like.',
    de: 'Sie nutzen dies so viel, dass {{tier}} besser zu Ihnen passt: Dort ist mehr Platz für lange Unterhaltungen. Sie können jederzeit wechseln.',
    fr: 'Vous utilisez ce service assez pour que {{tier}} vous convienne mieux : les longues conversations y ont plus de place. Vous pouvez changer quand vous le souhaitez.',
    es: 'Usa este servicio lo suficiente como para que {{tier}} le convenga más: deja más espacio para conversaciones largas. Puede cambiar cuando quiera.',
    ja: 'ご利用状況から、{{tier}} のほうが適しています。長い会話をより余裕をもって続けられます。いつでも変更できます。',
  },
}

/**
 * What stands in for `End` where it is not the conversation's own budget that is short. A new conversation is no way on there, and none
 * of the two says when there is one: a user's budget comes again with the next period, of a service's limit its users know nothing.
 */
export const END_TEXTS: Readonly<Record<Exclude<CapKind, 'conversation'>, Readonly<Record<BuiltInLocale, string>>>> = {
  user: {
    en: "What is left of your plan's budget for this period is not enough for another answer here. Nothing that was said is lost: you can go on when the budget renews with the next period.",
    de: 'Was vom Budget Ihres Tarifs für diesen Zeitraum übrig ist, reicht hier für keine weitere Antwort. Nichts von dem Gesagten geht verloren: Sie können weitermachen, sobald sich das Budget mit dem nächsten Zeitraum erneuert.',
    fr: "Ce qui reste du budget de votre forfait pour cette période ne suffit pas pour une autre réponse ici. Rien de ce qui a été dit n'est perdu : vous pourrez continuer lorsque le budget se renouvellera avec la prochaine période.",
    es: 'Lo que queda del presupuesto de su plan para este período no alcanza para otra respuesta aquí. Nada de lo dicho se pierde: podrá continuar cuando el presupuesto se renueve con el próximo período.',
    ja: 'ご利用プランの今期の予算の残りでは、ここでこれ以上お答えできません。これまでの内容が失われることはありません。次の期間に予算が更新されると、続けていただけます。',
  },
  workload: {
    en: 'This service has reached a limit of its own and gives no further answers for the moment. It is nothing that you did, and nothing that was said is lost. Please come back later.',
    de: 'Dieser Dienst hat eine eigene Grenze erreicht und gibt im Moment keine weiteren Antworten. Das liegt nicht an Ihnen, und nichts von dem Gesagten geht verloren. Bitte kommen Sie später wieder.',
    fr: "Ce service a atteint une limite qui lui est propre et ne donne plus de réponses pour le moment. Vous n'y êtes pour rien, et rien de ce qui a été dit n'est perdu. Merci de revenir plus tard.",
    es: 'Este servicio ha alcanzado un límite propio y por el momento no da más respuestas. No se debe a nada que usted haya hecho, y nada de lo dicho se pierde. Vuelva más tarde, por favor.',
    ja: 'このサービス自体の上限に達したため、現在はこれ以上お答えできません。お客様の操作が原因ではなく、これまでの内容が失われることもありません。しばらくしてから、もう一度お越しください。',
  },
}
