# Тексты страницы журнала для пациента.

page-title = Журнал доступа к вашим данным
page-title-ward = Журнал доступа к данным пациента, которого вы представляете
page-patient = Пациент
page-made = Составлено
page-since = Начиная с
page-until = До
page-law = Приказ Министерства здравоохранения V2100023370, пункт 28
page-newest = Новые сверху. Время алматинское.
page-when = Когда
page-who = Кто и от какой организации
page-what = Что сделано
page-purpose = Цель
page-ground = Правовое основание
page-result = Результат
page-allowed = разрешено
page-denied = отказано
page-emergency = Экстренный случай
page-degraded = Решено, пока хранилище было недоступно
page-withheld = Эта строка временно не показана: врач временно не сообщает сведения по закону
page-erased = Личные сведения уничтожены
page-unknown = не указано
page-organisation = организация
page-person = обозначение сотрудника
page-none = За это время записей нет.
page-older = Более ранние записи
page-languages = Язык
